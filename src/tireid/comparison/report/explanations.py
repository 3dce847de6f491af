"""The explanations that `make explain` has drawn into the run folders."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tireid.comparison.report.blocks import Block, Figure, Figures, Fold, Note, Section
from tireid.comparison.report.loading import Comparison, Row
from tireid.comparison.report.style import thumbnail
from tireid.data.synthetic import SYNTHETIC
from tireid.runs.foreign import regular_file

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
        blocks.append(Fold(f"{row.name}, seed {row.first.seed}", list(_blocks(row, images))))
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
            if existing := [(path, title) for path, title in images if path.exists()]:
                return existing
    return []


def _blocks(row: Row, images: Sequence[tuple[Path, str]]) -> Iterator[Block]:
    """Yield the images that can be read, and a note for each of the others."""
    figures: list[Figure] = []
    for path, title in images:
        alt = f"What {row.name} looks at: {title}"
        try:
            regular_file(path, inside=path.parents[1])
            size = (_WIDTH, 4 * _WIDTH)
            figures.append(thumbnail(path, alt, size, title=title, scale=1))
        except (OSError, ValueError) as error:
            yield Note(f"An image cannot be shown: {error}", warning=True)
    yield Figures(figures)
