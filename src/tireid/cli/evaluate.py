"""The command `tireid evaluate`."""

from typing import Any

from tireid.cli import hydra_app


def _evaluate(cfg: Any) -> None:
    from tireid.training.evaluate import evaluate

    evaluate(cfg)


def main() -> None:
    """Run `tireid evaluate`."""
    hydra_app.run("evaluate", _evaluate)
