import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# One row an entry: split, identity, image, captions. Identities have gaps and are not sorted, their
# images do not stand together, one identity has one image, one image is described three times.
ENTRIES: list[tuple[str, int, str, list[str]]] = [
    ("train", 70, "cam_a/70_0.png", ["a woman in red", "a lady with a red coat"]),
    ("train", 3, "cam_b/3_0.png", ["a man in blue jeans", "he carries a backpack"]),
    ("test", 11, "cam_a/11_0.png", ["a boy in yellow", "yellow shirt, black shoes"]),
    ("train", 70, "cam_b/70_1.png", ["red coat again", "the woman looks left"]),
    ("train", 12, "cam_a/12_0.png", ["an old man with a stick"]),
    ("val", 5, "cam_a/5_0.png", ["a girl with a white skirt", "white skirt, green bag"]),
    ("train", 3, "cam_a/3_1.png", ["blue jeans", "a bag on his back", "the man walks away"]),
    ("val", 9, "cam_b/9_0.png", ["grey suit", "a suit and a tie"]),
    ("test", 40, "cam_a/40_0.png", ["a dress with dots", "she wears a dotted dress"]),
    ("test", 11, "cam_b/11_1.png", ["the boy again"]),
]


@pytest.fixture
def entries() -> list[dict[str, Any]]:
    """Entries of an annotation file in CUHK-PEDES' form."""
    return [
        {
            "split": split,
            "id": pid,
            "file_path": path,
            "captions": captions,
            "processed_tokens": [[["nested", "deeper"]], "than", 1],
        }
        for split, pid, path, captions in ENTRIES
    ]


@pytest.fixture
def write_annotations(tmp_path: Path) -> Callable[..., Path]:
    """Writes an annotation file and an empty `imgs/`; returns the data set's folder."""

    def write(content: Any, *, name: str = "reid_raw.json", folder: str = "CUHK-PEDES") -> Path:
        root = tmp_path / folder
        (root / "imgs").mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (root / name).write_text(text, encoding="utf-8")
        return root

    return write


@pytest.fixture
def write_data_set(
    write_annotations: Callable[..., Path], entries: list[dict[str, Any]]
) -> Callable[..., Path]:
    """Writes annotations and pictures; image n is of the single colour (10 n, 20, 30)."""

    def write(content: list[dict[str, Any]] | None = None) -> Path:
        content = entries if content is None else content
        root = write_annotations(content)
        for number, entry in enumerate(content):
            path = root / "imgs" / entry["file_path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 30), (10 * number, 20, 30)).save(path)
        return root

    return write


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Returns random bytes of a shape, for images."""

    def make(*shape: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    return make
