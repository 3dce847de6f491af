"""The explanations that `make explain` has drawn into the run folders."""

from pathlib import Path

from tireid.comparison.report.blocks import Block, Figure, Figures, Fold, Note, Section
from tireid.comparison.report.loading import Comparison, Row
from tireid.comparison.report.style import thumbnail
from tireid.data.synthetic import SYNTHETIC

FOLDER = "explanations"
_WIDTH = 1000  # pixels
_ROWS = 6
_SHOWN = {
    "overview.png": "captions and images",
    "atoms.png": "dictionary atoms",
    "supports.png": "support sets",
}


def explanations(comparison: Comparison) -> Section | None:
    """Return some of the explanations of each row; None if there are none."""
    blocks: list[Block] = []
    for row in comparison.rows:
        images = _images(row)
        if not images or len(blocks) == _ROWS:
            continue
        if row.dataset != SYNTHETIC and not comparison.pictures:
            blocks.append(
                Note(f"{row.name}: they show images of {row.dataset}; --pictures includes them")
            )
            continue
        figures = [_figure(path, row, content) for path, content in images]
        blocks.append(Fold(f"{row.name}, seed {row.first.seed}", [Figures(figures)]))
    if not blocks:
        return None
    note = (
        "Of the first run of each row with explanations by `make explain`; the others are in its "
        "run folder."
    )
    return Section("explanations", "What models look at", [Note(note), *blocks])


def _images(row: Row) -> list[tuple[Path, str]]:
    """Return the images of the first run that has any, with their titles."""
    for run in row.runs:
        if run.folder is not None:
            folder = run.folder / FOLDER
            images = [(folder / name, title) for name, title in _SHOWN.items()]
            if existing := [(path, title) for path, title in images if path.is_file()]:
                return existing
    return []


def _figure(path: Path, row: Row, title: str) -> Figure:
    alt = f"What {row.name} looks at: {title}"
    return thumbnail(path, alt, (_WIDTH, 4 * _WIDTH), title=title, scale=1)
