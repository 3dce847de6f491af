"""Lay methods side by side in a report on Weights & Biases, and bring it up to date.

python -m tireid dashboard --project tireid --group like_for_like
python -m tireid dashboard --entity team --dataset cuhk_pedes
python -m tireid dashboard --dry-run dashboard.json
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tireid.comparison.published import read_published

if TYPE_CHECKING:  # wandb is optional, and slow to import
    from tireid.comparison.dashboard.scope import Scope


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
    from tireid.comparison.dashboard import server
    from tireid.comparison.dashboard.report import build, presets_of

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
    from tireid.comparison.dashboard.report import build, content, presets_of

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
