"""Cases of `tireid doctor`: data sets that are damaged, misplaced or of another form."""

import json
import shutil
from pathlib import Path
from random import Random

from annotations import mutate_annotations
from case import Case, Place
from files import ANY, REFUSED, mutate_bytes, mutate_image, mutate_kind, mutate_text_file
from samples import LAYOUTS
from values import mutate_text, printable_scalars


def make_doctor(rng: Random, place: Place) -> Case:
    """Draw a data set with one thing wrong, and write its files."""
    layout = rng.choice(sorted(LAYOUTS))
    annotation, field, _ = LAYOUTS[layout]
    root = Path(shutil.copytree(place.samples / "data" / layout, place.inside / "data"))
    file, kind = root / annotation, rng.random()
    if kind < 0.25:
        what, expected = mutate_annotations(file, field, rng)
        expected = REFUSED if expected == REFUSED else ANY  # it is stricter than training
    elif kind < 0.55:
        what, expected = mutate_text_file(file, rng, place.outside)
    elif kind < 0.8:
        file = rng.choice(sorted((root / "imgs").rglob("*.png")))
        damages = [mutate_bytes, mutate_image, lambda file, rng: mutate_kind(file, rng, None)]
        what, expected = rng.choice(damages)(file, rng)
    else:
        what, expected = _misplace(root, file, rng), ANY
    command = ["doctor", layout, str(root if root.exists() else place.inside / "elsewhere")]
    report, fixed = str(place.inside / "report"), str(place.inside / "fixed.json")
    options = [["--own"], ["--out", report, "--images"], ["--fix", fixed]]
    command += [word for words in options if rng.random() < 0.5 for word in words]
    return Case(f"doctor of {layout}: {file.relative_to(root)}: {what}", command, expected)


def _misplace(root: Path, file: Path, rng: Random) -> str:
    """Give a data set the form of another repository, or names that lead nowhere."""
    entries = json.loads(file.read_text())
    kind = rng.choice(["a file a split", "inside an object", "renamed", "moved", "linked", "odd"])
    if kind == "a file a split":
        for split in ("train", "val", "test"):
            part = [entry for entry in entries if entry["split"] == split]
            text = json.dumps(part)
            if rng.random() < 0.3:
                text, _ = mutate_text(text, rng)
            (root / f"{split}_reid.json").write_text(text)
        file.unlink()
    elif kind == "inside an object":
        rows = {"annotations": entries, "categories": rng.choice(printable_scalars())}
        file.write_text(json.dumps(rows))
    elif kind == "renamed":
        file.rename(
            root / rng.choice(["caption_all.json", "a\x1b[2J.json", "\u202e.json", "x.JSON"])
        )
    elif kind == "moved":
        root.rename(root.with_name("elsewhere"))
    elif kind == "linked":
        shutil.rmtree(root / "imgs")
        (root / "imgs").symlink_to(rng.choice([root, root / "imgs", "/proc/self", "/dev/zero"]))
    else:
        for entry in entries:
            entry["captions"] = rng.choice(printable_scalars())
        file.write_text(json.dumps(entries))
    return kind
