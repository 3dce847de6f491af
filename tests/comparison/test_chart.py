"""The chart of results."""

from dataclasses import replace

import numpy as np
from PIL import Image

from tireid.comparison.chart import draw_results
from tireid.runs.results import Result


def result(label="a", seed=1, r1=50.0, **other):
    fields = {
        "dataset": "synthetic",
        "selection": "val",
        "steps": 200,
        "seconds": 10.0,
        "images_per_second": 100.0 + seed,
        "parameters": 2_340_000,
        "test_data": "f00",
        "settings": "5e7",
        "commit": "",
    }
    return Result(label=label, seed=seed, metrics={"test/R1": r1}, **fields | other)


def test_the_picture_has_a_dot_for_each_seed(tmp_path):
    """Told apart by position and shape: no text is needed, and no colour but the dots'."""
    results = [
        result(label=label, seed=s, r1=r) for label in "ab" for s, r in ((1, 40.0), (2, 60.0))
    ]
    results = [replace(r, metrics=r.metrics | {"test/mAP": 30.0 + r.seed}) for r in results]
    draw_results(results, tmp_path / "a.png", "1 more without a result")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (pixels[..., 2] > 140) & (pixels[..., 0] < 100)
    black = pixels.sum(axis=-1) < 60
    assert blue.sum() > 8 * 40  # four dots in each panel
    assert black.sum() > 500
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
