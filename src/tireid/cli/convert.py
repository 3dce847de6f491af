"""The command `tireid convert`."""

import hydra
from omegaconf import DictConfig

from tireid.files import conf_dir
from tireid.inference.convert import convert
from tireid.training.errors import clear_errors


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="convert")
@clear_errors
def _hydra_main(cfg: DictConfig) -> None:
    convert(cfg)


def main() -> None:
    """Run `tireid convert`."""
    _hydra_main()
