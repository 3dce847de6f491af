"""Lay methods side by side in a report on Weights & Biases, and bring it up to date.

python -m tireid.dashboard --project tireid --group like_for_like
python -m tireid.dashboard --entity team --dataset cuhk_pedes
python -m tireid.dashboard --dry-run dashboard.json
"""

import argparse
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from tireid.published import read_published

if TYPE_CHECKING:  # wandb is optional, and slow to import
    from tireid.wandb_dashboard.scope import Scope


def send(scope: "Scope", url: str | None = None) -> str:
    """Create the report of a scope, or bring the one that is there up to date.

    Args:
        scope: The runs it compares; the client is logged in.
        url: Of the report to update; None: the project's report of the same title, or a new one.

    Returns:
        Its address.

    Raises:
        ValueError: If the project or the report at `url` is not there.
    """
    from tireid.wandb_dashboard import server
    from tireid.wandb_dashboard.report import build, presets_of

    console = Console(highlight=False, soft_wrap=True)
    url = url or server.find(scope.entity, scope.project, scope.title)
    published = read_published(scope.dataset)
    presets = []
    for preset in presets_of(published):
        try:
            server.keep_preset(scope.entity, preset)
            presets.append(preset)
        except server.FAILURES as error:
            console.print(
                f"left out: the chart {preset.title!r}, which the server refused: {error}",
                markup=False,
                style="red",
            )
    saved = server.save(build(scope, published, presets), url)
    console.print(f"{'created' if saved.created else 'updated'}: {saved.url}", markup=False)
    return saved.url


def write(scope: "Scope", path: Path) -> None:
    """Build the report, check it, and write what would be sent as JSON; without key or network.

    Args:
        scope: The runs it compares.
        path: The file; its folder is made.

    Raises:
        ValueError: If wandb's client would not understand the report.
    """
    from tireid.wandb_dashboard.report import build, content, presets_of

    published = read_published(scope.dataset)
    presets = presets_of(published)
    charts = [
        {"entity": scope.entity, "name": chart.name, "displayName": chart.title, "spec": chart.spec}
        for chart in presets
    ]
    sent = {"report": content(build(scope, published, presets)), "charts": charts}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sent, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Console(highlight=False, soft_wrap=True).print(
        f"written, not sent: {path}: {scope.title!r} for {scope.entity}/{scope.project}",
        markup=False,
    )


def main() -> None:
    """Run `tireid-dashboard`."""
    arguments = _parser().parse_args()
    missing = [name for name in ("wandb", "wandb_workspaces") if find_spec(name) is None]
    if missing:
        _stop(f"expected {' and '.join(missing)}, got none: pip install 'tireid[wandb]'")
    os.environ.setdefault("WANDB_SILENT", "true")  # what is to be said is said here
    from tireid.wandb_dashboard import server
    from tireid.wandb_dashboard.names import METHOD
    from tireid.wandb_dashboard.scope import Scope

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
        prog="tireid-dashboard",
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


if __name__ == "__main__":
    main()
