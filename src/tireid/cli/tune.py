"""The command `tireid tune`."""

from typing import Any

from tireid.cli import hydra_app


def _tune(cfg: Any) -> None:
    from tireid.sweeps.tune import tune

    tune(cfg)


def main() -> None:
    """Run `tireid tune`."""
    hydra_app.run("tune", _tune)
