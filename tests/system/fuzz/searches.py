"""Cases of the search: indexes, lists of sources, images that are indexed or searched with."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from case import Case, Place
from databases import mutate_database
from files import ANY, REFUSED, mutate_bytes, mutate_image, mutate_kind, mutate_text_file
from values import mutate_document, mutate_text, printable_scalars

_CPU = ["--device", "cpu"]
_QUERY = "a red coat"


def make_search(rng: Random, place: Place) -> Case:
    """Draw a case of `tireid index`, `search` or `serve`, and write its files."""
    makers: list[Callable[[Random, Place], Case]] = [_index, _list, _source, _query, _arguments]
    return rng.choices(makers, weights=(45, 20, 10, 15, 10))[0](rng, place)


def _index(rng: Random, place: Place) -> Case:
    gallery = place.copied(rng.choice(["gallery", "gallery", "scenes"]), "gallery")
    file = rng.choice(
        [gallery / "index.json", gallery / "index.sqlite", *gallery.rglob("*/*.json")]
    )
    kind = rng.random()
    if kind < 0.15:
        what, expected = mutate_kind(file, rng, place.outside)
    elif kind < 0.3:
        what, expected = mutate_bytes(file, rng)
    elif file.suffix == ".json":
        what, expected = mutate_text_file(file, rng, place.outside)
    else:
        what, expected = mutate_database(file, rng)
    if "scenes" in file.parts:
        expected = ANY  # what is not known of a scene is found out again
    command = rng.choice([_search, _search, _serve, _update])(rng, gallery, place)
    return Case(f"index: {file.name}: {what}", command, expected)


def _search(rng: Random, gallery: Path, place: Place) -> list[str]:
    options = [["--json"], ["--sheet", str(place.inside / "sheet.png")], ["--where", "camera=1"]]
    return ["search", _QUERY, "--in", str(gallery), *_CPU, *rng.choice([[], *options])]


def _serve(_: Random, gallery: Path, __: Place) -> list[str]:
    return ["serve", str(gallery), *_CPU]


def _update(_: Random, gallery: Path, place: Place) -> list[str]:
    images = place.samples / "data" / "cuhk_pedes" / "imgs"
    return ["index", str(images), "--out", str(gallery), "--workers", "0", *_CPU]


def _new(source: Path, place: Place) -> list[str]:
    out, model = place.inside / "new", place.samples / "baseline"
    options = ["--out", str(out), "--model", str(model), "--workers", "0"]
    return ["index", str(source), *options, *_CPU]


def _list(rng: Random, place: Place) -> Case:
    file = place.inside / rng.choice(["list.csv", "list.jsonl"])
    images = sorted((place.samples / "data" / "cuhk_pedes").rglob("*.png"))
    rows = [{"path": str(path), "camera": n, "time": "10:00:01"} for n, path in enumerate(images)]
    if file.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        lines = text.getvalue().splitlines(keepends=True)
    else:
        lines = [json.dumps(row) + "\n" for row in rows]
    what, expected, kind = "", ANY, rng.random()
    at = rng.randrange(len(lines))
    if kind < 0.6 and file.suffix == ".jsonl":
        lines[at], what = mutate_document(lines[at], rng, "/nowhere", is_yaml=False)
    elif kind < 0.6:
        lines[at], what = mutate_text(lines[at], rng)
    file.write_bytes("".join(lines).encode("utf-8", "surrogatepass"))
    if kind >= 0.8:
        what, expected = mutate_kind(file, rng, None)
        if file.is_dir():
            expected = ANY  # a source of that name
    elif kind >= 0.6:
        what, expected = mutate_bytes(file, rng)
    return Case(f"{file.name}: line {at + 1}: {what}", _new(file, place), expected)


def _source(rng: Random, place: Place) -> Case:
    """One image that is none does not keep the others out of the index."""
    folder = place.copied("data/cuhk_pedes/imgs", "photos")
    file = rng.choice(sorted(folder.rglob("*.png")))
    what, _ = _damaged_image(file, rng, place)
    return Case(f"source: {file.name}: {what}", _new(folder, place), "accepted")


def _query(rng: Random, place: Place) -> Case:
    gallery, file = place.copied("gallery", "gallery"), place.inside / "query.png"
    images = sorted((place.samples / "data" / "cuhk_pedes").rglob("*.png"))
    file.write_bytes(images[0].read_bytes())
    what, expected = _damaged_image(file, rng, place)
    command = ["search", "--image", str(file), "--in", str(gallery), *_CPU]
    return Case(f"query: {what}", command, expected if file.exists() else REFUSED)


def _damaged_image(file: Path, rng: Random, _: Place) -> tuple[str, str]:
    kind = rng.random()
    if kind < 0.3:
        return mutate_kind(file, rng, None)
    return mutate_bytes(file, rng) if kind < 0.5 else mutate_image(file, rng)


def _arguments(rng: Random, place: Place) -> Case:
    """A value of the command line that is wrong in most places."""
    gallery, images = place.copied("gallery", "gallery"), place.samples / "data" / "cuhk_pedes"
    value = str(rng.choice(printable_scalars()))
    search = ["search", "--in", str(gallery), *_CPU]
    index = _new(images, place)
    choices = [
        [*search, value],
        *([*search, _QUERY, f"--{name}={value}"] for name in ("not", "where", "image", "model")),
        *([*search, _QUERY, f"--{name}={value}"] for name in ("image-weight", "device")),
        [*search, _QUERY, f"-k={value}"],
        *([*index, f"--{name}={value}"] for name in ("name-pattern", "batch-size", "storage")),
        *([*index, f"--{name}={value}"] for name in ("split", "model", "device")),
        ["serve", str(gallery), *_CPU, f"--port={value}"],
        ["serve", str(gallery), *_CPU, f"--host={value}"],
        ["dashboard", "--dry-run", "report.json", f"--project={value}"],
        ["dashboard", "--dry-run", "report.json", f"--by={value}"],
        ["dashboard", "--dry-run", "report.json", f"--dataset={value}"],
        ["dashboard", "--dry-run", "report.json", f"--entity={value}"],
        ["compare", str(place.samples / "results.csv"), f"--control={value}"],
    ]
    command = rng.choice(choices)
    return Case(f"argument: {command[-1][:100]!r}", command, ANY)
