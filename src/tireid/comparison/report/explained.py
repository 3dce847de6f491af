"""What models look at, where `make explain` has drawn it into the run folders."""

import base64
import io
from pathlib import Path

from PIL import Image

from tireid.comparison.report.blocks import Block, Figure, Figures, Fold, Note, Section
from tireid.comparison.report.material import Material, Row
from tireid.comparison.test_splits import MADE

FOLDER = "explanations"
_WIDTH = 1000  # pixels
_ROWS = 6
_SHOWN = {
    "overview.png": "captions and pictures",
    "atoms.png": "dictionary atoms",
    "supports.png": "support sets",
}


def explained(material: Material) -> Section | None:
    """Return some of the explanations of each row; None where no run holds any."""
    blocks: list[Block] = []
    for row in material.rows:
        found = _pictures(row)
        if not found or len(blocks) == _ROWS:
            continue
        if row.dataset != MADE and not material.pictures:
            said = f"{row.name}: they show pictures of {row.dataset}; --pictures puts them in"
            blocks.append(Note(said))
            continue
        figures = [_figure(path, row, said) for path, said in found]
        blocks.append(Fold(f"{row.name}, seed {row.first.seed}", [Figures(figures)]))
    if not blocks:
        return None
    note = "Of the first run of each row that `make explain` has drawn; all are in its run folder."
    return Section("explanations", "What models look at", [Note(note), *blocks])


def _pictures(row: Row) -> list[tuple[Path, str]]:
    """Return the pictures of the first run that holds any, with what they show."""
    for run in row.runs:
        if run.folder is not None:
            folder = run.folder / FOLDER
            found = [(folder / name, said) for name, said in _SHOWN.items()]
            if kept := [(path, said) for path, said in found if path.is_file()]:
                return kept
    return []


def _figure(path: Path, row: Row, said: str) -> Figure:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((_WIDTH, 4 * _WIDTH))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=78, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return Figure(source, f"What {row.name} looks at: {said}", said, width=picture.width)
