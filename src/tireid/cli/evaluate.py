"""The command `tireid evaluate`."""

import hydra
from omegaconf import DictConfig

from tireid.files import conf_dir
from tireid.training.errors import clear_errors
from tireid.training.evaluate import evaluate


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="evaluate")
@clear_errors
def _hydra_main(cfg: DictConfig) -> None:
    evaluate(cfg)


def main() -> None:
    """Run `tireid evaluate`."""
    _hydra_main()
