"""The command `tireid dashboard`."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:  # wandb is optional, and slow to import
    pass
from tireid.comparison.dashboard.send import send, write


def main() -> None:
    """Run `tireid dashboard`."""
    arguments = _parser().parse_args()
    missing = [name for name in ("wandb", "wandb_workspaces") if find_spec(name) is None]
    if missing:
        _stop(f"expected {' and '.join(missing)}, got none: pip install 'tireid[wandb]'")
    os.environ.setdefault("WANDB_SILENT", "true")  # what is to be said is said here
    from tireid.comparison.dashboard import server
    from tireid.comparison.dashboard.names import METHOD
    from tireid.comparison.dashboard.scope import Scope

    entity: str | None = arguments.entity or os.environ.get("WANDB_ENTITY")
    try:
        if arguments.dry_run is None:
            server.log_in()
            entity = entity or server.default_entity()
        scope = Scope(
            entity=entity or "your-entity",
            project=arguments.project,
            dataset=arguments.dataset,
            group=arguments.group,
            by=tuple(arguments.by or METHOD),
        )
        if arguments.dry_run:
            write(scope, arguments.dry_run)
        else:
            send(scope, arguments.url)
    except (ValueError, OSError, *server.FAILURES) as error:
        _stop(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tireid dashboard",
        description="Create or update a report on Weights & Biases that lays methods side by side.",
    )
    parser.add_argument(
        "--entity",
        help="user or team that owns the project (default: WANDB_ENTITY, or your account's)",
    )
    parser.add_argument("--project", default="tireid", help="of the runs (default: %(default)s)")
    parser.add_argument(
        "--dataset", default="synthetic", help="only runs on this data set (default: %(default)s)"
    )
    parser.add_argument("--group", help="only runs of this group")
    parser.add_argument(
        "--by", nargs="+", metavar="SETTING", help="settings in which the seeds of a method agree"
    )
    parser.add_argument(
        "--url", help="the report to update, if it was renamed (default: found by its title)"
    )
    parser.add_argument(
        "--dry-run", type=Path, metavar="FILE", help="write what would be sent; needs no key"
    )
    return parser


def _stop(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]error:[/bold red] {escape(message)}"
    )
    sys.exit(1)
