"""The command `tireid dashboard`."""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from tireid.cli.arguments import Parser
from tireid.console import complain


def main() -> None:
    """Run `tireid dashboard`."""
    arguments = _parse()
    missing = [name for name in ("wandb", "wandb_workspaces") if find_spec(name) is None]
    if missing:
        complain(f"expected {' and '.join(missing)}, got none: pip install -e '.[wandb]'")
        sys.exit(1)
    os.environ.setdefault("WANDB_SILENT", "true")
    from tireid.comparison.dashboard import server  # late: optional, and slow
    from tireid.comparison.dashboard.names import METHOD
    from tireid.comparison.dashboard.report import Scope

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
            server.write(scope, arguments.dry_run)
        else:
            server.send(scope, arguments.url)
    except (ValueError, OSError, *server.FAILURES) as error:
        complain(str(error))
        sys.exit(1)


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid dashboard",
        description="Create or update a report on Weights & Biases that compares methods.",
    )
    parser.add_argument(
        "--entity",
        help="user or team that owns the project (default: WANDB_ENTITY, or your account's)",
    )
    parser.add_argument(
        "--project", default="tireid", help="project of the runs (default: %(default)s)"
    )
    parser.add_argument(
        "--dataset", default="synthetic", help="only runs on this data set (default: %(default)s)"
    )
    parser.add_argument("--group", help="only runs of this group")
    parser.add_argument(
        "--by", nargs="+", metavar="SETTING", help="settings that are equal for seeds of a method"
    )
    parser.add_argument(
        "--url", help="address of the report to update (default: found by its title)"
    )
    parser.add_argument(
        "--dry-run",
        type=Path,
        metavar="FILE",
        help="write what would be sent to this file; needs no key",
    )
    return parser.parse()
