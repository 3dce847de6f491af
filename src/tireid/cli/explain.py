"""The command `tireid explain`."""

from typing import Any

from tireid.cli import hydra_app


def _explain(cfg: Any) -> None:
    from tireid.explanations.explain import explain

    explain(cfg)


def main() -> None:
    """Run `tireid explain`."""
    hydra_app.run("explain", _explain)
