"""The report of a comparison: a web page, and its tables as Markdown."""

from datetime import datetime
from pathlib import Path

from tireid.comparison.report.blocks import Section
from tireid.comparison.report.caption_groups import caption_group_tables
from tireid.comparison.report.costs import costs
from tireid.comparison.report.curves import curves
from tireid.comparison.report.differences import differences
from tireid.comparison.report.explanations import explanations
from tireid.comparison.report.galleries import galleries
from tireid.comparison.report.head import head
from tireid.comparison.report.loading import Comparison, load_comparison
from tireid.comparison.report.render import as_page, as_text
from tireid.comparison.report.similarities import similarities
from tireid.comparison.report.tables import results
from tireid.console import printable
from tireid.files import write_text

__all__ = ["load_comparison", "write_report"]


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
    for name, render in (("report.html", as_page), ("report.md", as_text)):
        write_text(folder / name, printable(render(title, sections)))
        written.append(folder / name)
    return written
