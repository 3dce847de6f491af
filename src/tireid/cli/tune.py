"""The command `tireid tune`."""

import hydra
from omegaconf import DictConfig

from tireid.files import conf_dir
from tireid.sweeps.tune import tune
from tireid.training.errors import clear_errors


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="tune")
@clear_errors
def _hydra_main(cfg: DictConfig) -> None:
    tune(cfg)


def main() -> None:
    """Run `tireid tune`."""
    _hydra_main()
