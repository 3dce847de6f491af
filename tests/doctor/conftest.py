import json

import numpy as np
import pytest
from PIL import Image

from tireid.doctor.examination import examine

# Split, identity, image and captions of each entry.
ENTRIES = [
    (split, pid, f"cam_{camera}/{pid}_{camera}.png", [f"person {pid} in a coat, seen by {camera}"])
    for split, pids in (("train", (1, 2, 3)), ("val", (4,)), ("test", (5, 6)))
    for pid in pids
    for camera in "ab"
]

PEOPLE = (("train", "anna"), ("train", "ben"), ("val", "cy"), ("test", "di"))


def draw(path, seed):
    """Write an image of coarse noise that looks like no other seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (20, 10, 3), dtype=np.uint8)
    Image.fromarray(levels).resize((40, 80), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def entries():
    """Entries of a sound annotation file, which a test may damage."""
    return [
        {"split": split, "id": pid, "file_path": path, "captions": captions}
        for split, pid, path, captions in ENTRIES
    ]


@pytest.fixture
def data(tmp_path, entries):
    """Return a function that writes the entries and their images, and returns the folder."""

    def write(*, name="reid_raw.json", content=None, folder="CUHK-PEDES"):
        root = tmp_path / folder
        for seed, (_, _, path, _) in enumerate(ENTRIES):
            draw(root / "imgs" / path, seed)
        if name is not None:
            text = json.dumps(entries if content is None else content)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return root

    return write


@pytest.fixture
def examined(tmp_path):
    """Return a function that examines a folder whose counts are not the published ones."""

    def run(root, dataset="cuhk_pedes", *, own=True, model=None):
        return examine(
            dataset, root, memory=tmp_path / "memory", own=own, model=model, progress=False
        )

    return run


@pytest.fixture
def table(tmp_path):
    """Return a function that writes images and a table, and returns the folder."""

    def write(change=lambda text: text, name="captions.csv"):
        rows = ["image,caption,person,split,camera"]
        for number, (split, person) in enumerate((s, p) for s, p in PEOPLE for _ in "ab"):
            draw(tmp_path / "own" / f"{number}.png", number)
            rows.append(f"{number}.png,someone in a coat of kind {number},{person},{split},1")
        (tmp_path / "own" / name).write_text(change("\n".join(rows) + "\n"))
        return tmp_path / "own"

    return write
