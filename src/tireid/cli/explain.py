"""The command `tireid explain`."""

import hydra
from omegaconf import DictConfig

from tireid.explanations.explain import explain
from tireid.files import conf_dir
from tireid.training.errors import clear_errors


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="explain")
@clear_errors
def _hydra_main(cfg: DictConfig) -> None:
    explain(cfg)


def main() -> None:
    """Run `tireid explain`."""
    _hydra_main()
