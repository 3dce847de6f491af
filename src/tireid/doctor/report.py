"""The report of an examination: a page, Markdown and JSON; images of people only if asked for."""

import base64
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tireid.console import escaped, printable
from tireid.data.images import decode
from tireid.doctor.examination import Examination
from tireid.doctor.findings import Finding
from tireid.doctor.screen import count_lines
from tireid.figures.templates import render
from tireid.files import write_json, write_text

_ALL = 1_000  # attributes
_HEIGHT = 160  # pixels of an image on the page


def write_report(result: Examination, folder: Path, *, images: bool) -> list[Path]:
    """Write `report.html`, `report.md` and `report.json`.

    Args:
        result: What was found.
        folder: Folder of the files; created if missing.
        images: Whether the page shows the images of findings.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, text, data = (folder / f"report.{ending}" for ending in ("html", "md", "json"))
    shown = [(finding, _sources(finding) if images else []) for finding in result.findings]
    values = {"result": result, "lines": count_lines(result, _ALL), "findings": shown}
    for file in (page, text):
        page_text = render(Path(__file__).parent, file.name, {"plain": escaped}, **values)
        write_text(file, printable(page_text))
    write_json(data, as_json(result))
    return [page, text, data]


def as_json(result: Examination) -> dict[str, Any]:
    """Return an examination as JSON has it."""
    names = ("dataset", "name", "terms", "files", "counts", "declared")
    findings = [asdict(finding) for finding in result.findings]
    for finding in findings:
        del finding["images"]
    return {
        **{name: getattr(result, name) for name in names},
        "root": str(result.root),
        "image_root": str(result.image_root),
        "cuts": [cut._asdict() for cut in result.cuts],
        "words": None if result.words is None else result.words._asdict(),
        "findings": findings,
    }


def _sources(finding: Finding) -> list[str]:
    """Return the images of a finding in small, as data URIs."""
    sources: list[str] = []
    for path in finding.images:
        try:
            image = decode(path)
        except ValueError:  # another finding says so
            continue
        image.thumbnail((2 * _HEIGHT, _HEIGHT))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=85)
        code = base64.b64encode(content.getvalue()).decode()
        sources.append(f"data:image/jpeg;base64,{code}")
    return sources
