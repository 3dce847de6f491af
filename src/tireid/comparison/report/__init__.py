"""The report of a comparison: one HTML page and the same tables as Markdown."""

import os
from datetime import datetime
from pathlib import Path

from tireid.comparison.report.blocks import Section
from tireid.comparison.report.breakdowns import breakdowns
from tireid.comparison.report.costs import costs
from tireid.comparison.report.curves import curves
from tireid.comparison.report.differences import differences
from tireid.comparison.report.explained import explained
from tireid.comparison.report.galleries import galleries
from tireid.comparison.report.head import head
from tireid.comparison.report.material import Material, Run, read_material
from tireid.comparison.report.page import as_page
from tireid.comparison.report.similarities import similarities
from tireid.comparison.report.tables import results
from tireid.comparison.report.text import as_text

__all__ = ["PAGE", "TEXT", "Material", "Run", "read_material", "write_report"]

PAGE, TEXT = "report.html", "report.md"


def write_report(material: Material, folder: Path, *, command: str) -> list[Path]:
    """Write `report.html` and `report.md`.

    Args:
        material: What they tell.
        folder: Where they go; made if missing.
        command: What was typed, for the record.

    Returns:
        The files. A reader sees the old ones or the new ones, never half of one.
    """
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    found: list[Section | None] = [
        head(material, when=when, command=command),
        results(material),
        differences(material),
        curves(material),
        costs(material),
        breakdowns(material),
        galleries(material),
        similarities(material),
        explained(material),
    ]
    sections = [section for section in found if section is not None]
    title = f"Comparison on {', '.join(material.datasets)}"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in (
        (PAGE, as_page(title, sections)),
        (TEXT, as_text(title, sections)),
    ):
        temporary = folder / f".{os.getpid()}.{name}"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(folder / name)
        written.append(folder / name)
    return written
