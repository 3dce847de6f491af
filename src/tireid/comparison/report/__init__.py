"""The report of a comparison: a web page, and its tables as Markdown."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tireid.comparison.report.blocks import Section
from tireid.comparison.report.caption_groups import caption_group_tables
from tireid.comparison.report.costs import costs
from tireid.comparison.report.cross_domain import cross_domain
from tireid.comparison.report.curves import curves
from tireid.comparison.report.differences import differences
from tireid.comparison.report.explanations import explanations
from tireid.comparison.report.galleries import galleries
from tireid.comparison.report.head import head
from tireid.comparison.report.loading import Comparison, load_comparison
from tireid.comparison.report.similarities import similarities
from tireid.comparison.report.tables import results
from tireid.comparison.table import markdown
from tireid.console import escaped, printable
from tireid.figures import templates
from tireid.files import write_text

__all__ = ["load_comparison", "render", "write_report"]


def write_report(comparison: Comparison, folder: Path, *, command: str) -> list[Path]:
    """Write `report.html` and `report.md`.

    Args:
        comparison: Content of the report.
        folder: Folder of the files; created if missing.
        command: The command that the report names.

    Returns:
        The files.
    """
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    parts: list[Section | None] = [
        head(comparison, when=when, command=command),
        results(comparison),
        cross_domain(comparison),
        differences(comparison),
        curves(comparison),
        costs(comparison),
        caption_group_tables(comparison),
        galleries(comparison),
        similarities(comparison),
        explanations(comparison),
    ]
    sections = [section for section in parts if section is not None]
    title = f"Comparison on {', '.join(comparison.datasets)}"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in ("report.html", "report.md"):
        write_text(folder / name, printable(render(name, title, sections)))
        written.append(folder / name)
    return written


def render(name: str, title: str, sections: Sequence[Section]) -> str:
    """Return a report as HTML without external files, or as Markdown without figures.

    All text is escaped, and the page's policy lets no script run but its own.

    Args:
        name: `report.html` or `report.md`.
        title: Heading of the report.
        sections: Sections in order; on a page the first stands above the table of contents.
    """
    filters = {
        "plain": escaped,
        "kind": lambda block: type(block).__name__,
        "table": lambda table: markdown(
            table.head, [line.cells for line in table.lines], table.left, table.right
        ),
    }
    folder = Path(__file__).parent
    script = (folder / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {"title": title, "sections": sections, "script": script, "script_hash": digest}
    return templates.render(folder, name, filters, **values)
