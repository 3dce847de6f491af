"""The command `tireid export`."""

from typing import Any

from tireid.cli import hydra_app


def _export(cfg: Any) -> None:
    from tireid.inference.export import export

    export(cfg)


def main() -> None:
    """Run `tireid export`."""
    hydra_app.run("export", _export)
