"""The command `tireid convert`."""

from typing import Any

from tireid.cli import hydra_app


def _convert(cfg: Any) -> None:
    from tireid.inference.convert import convert

    convert(cfg)


def main() -> None:
    """Run `tireid convert`."""
    hydra_app.run("convert", _convert)
