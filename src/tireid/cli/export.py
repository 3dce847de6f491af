"""The command `tireid export`."""

import hydra
from omegaconf import DictConfig

from tireid.files import conf_dir
from tireid.inference.export import export
from tireid.training.errors import clear_errors


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="export")
@clear_errors
def _hydra_main(cfg: DictConfig) -> None:
    export(cfg)


def main() -> None:
    """Run `tireid export`."""
    _hydra_main()
