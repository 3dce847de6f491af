"""Cases of tables of one's own, and of data sets that are written in another layout."""

import csv
import json
import shutil
from pathlib import Path
from random import Random

from annotations import mutate_annotations
from case import Case, Place
from files import ANY, REFUSED, mutate_bytes, mutate_image, mutate_kind
from samples import LAYOUTS
from values import mutate_document, mutate_text, printable_scalars

CUSTOM = "custom"


def make_table(rng: Random, place: Place) -> Case:
    """Draw a data set with one thing wrong that is read as a table, or converted."""
    layout = rng.choice([CUSTOM, CUSTOM, *LAYOUTS])
    root = Path(shutil.copytree(place.samples / "data" / layout, place.inside / "data"))
    file = root / ("captions.csv" if layout == CUSTOM else LAYOUTS[layout][0])
    kind = rng.random()
    if kind < 0.15:
        file = rng.choice(sorted((root / "imgs").rglob("*.png")))
        damages = [mutate_bytes, mutate_image, lambda file, rng: mutate_kind(file, rng, None)]
        what, _ = rng.choice(damages)(file, rng)
        expected = ANY  # a conversion copies images as they are
    elif kind < 0.3:
        what, expected = rng.choice([mutate_bytes, _mutate_kind])(file, rng)
        if not file.exists():
            expected = REFUSED
    elif layout != CUSTOM:
        what, expected = mutate_annotations(file, LAYOUTS[layout][1], rng)
        expected = REFUSED if expected == REFUSED else ANY
    elif kind < 0.65:
        what, expected = _mutate_cells(file, rng), ANY
    else:
        file, what, expected = *_mutate_line(file, rng), ANY
    command = _command(rng, layout, root, place)
    return Case(f"{command[0]} of {layout}: {file.relative_to(root)}: {what}", command, expected)


def _command(rng: Random, layout: str, root: Path, place: Place) -> list[str]:
    if layout == CUSTOM and rng.random() < 0.5:
        run = place.copied("baseline", "run")
        options = [f"dataset.root={root}", "dataset.num_workers=0", "split=test"]
        return rng.choice(
            [["evaluate", f"run={run}", "dataset=custom", *options], ["doctor", CUSTOM, str(root)]]
        )
    out = rng.choice([place.inside / "new", place.inside / "new", root])
    options = ["--to", rng.choice([CUSTOM, *LAYOUTS]), str(out)]
    images = rng.choice(["link", "copy", "none"])
    return ["dataset", "convert", layout, str(root), *options, "--images", images]


def _mutate_kind(file: Path, rng: Random) -> tuple[str, str]:
    return mutate_kind(file, rng, None)  # it may rightly lie elsewhere


def _mutate_cells(file: Path, rng: Random) -> str:
    """Write a value into cells of a table, or damage its text."""
    if rng.random() < 0.3:
        text, what = mutate_text(file.read_text(), rng)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        return what
    with file.open(newline="") as table:
        rows = list(csv.reader(table))
    column, value = rng.randrange(len(rows[0])), str(rng.choice(printable_scalars()))
    some = rng.choice([rows, rows[1:], [rng.choice(rows)]])
    for row in some:
        row[column] = value
    with file.open("w", newline="") as table:
        csv.writer(table).writerows(rows)
    return f"column {column} of {len(some)} rows = {value[:40]!r}"


def _mutate_line(file: Path, rng: Random) -> tuple[Path, str]:
    """Write a table as JSON Lines with one of them damaged; return that file, and what was done."""
    with file.open(newline="") as table:
        lines = [json.dumps(row) for row in csv.DictReader(table)]
    file.unlink()
    at = rng.randrange(len(lines))
    lines[at], what = mutate_document(lines[at], rng, "/nowhere", is_yaml=False)
    file = file.with_suffix(".jsonl")
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return file, f"line {at + 1}: {what}"
