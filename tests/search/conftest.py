"""What tests of the index share: a model of random weights and a folder of images."""

import pytest
from PIL import Image

from tireid.search.indexing import IndexOptions, build_index


@pytest.fixture(scope="session")
def model(untrained_run):
    """Return a run folder; its weights are random."""
    return untrained_run("model=lgur")


@pytest.fixture
def draw():
    """Return a function that writes an image unlike those of other numbers."""

    def drawn(path, number=0, size=(30, 70)):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", size, (37 * number % 256, 91 * number % 256, 53 * number % 256))
        image.paste((250, 10 * number % 256, 80), (0, 0, 12, 5 + number % 60))
        image.save(path)
        return path

    return drawn


@pytest.fixture
def pictures(tmp_path, draw):
    """Return a folder of 12 images in two folders."""
    folder = tmp_path / "pictures"
    for number in range(12):
        draw(
            folder / f"day {number % 2}" / f"{number:04d}_c{number % 3}_1030{number:02d}.png",
            number,
        )
    return folder


@pytest.fixture
def index_it(model, tmp_path):
    """Return a function that indexes sources into `gallery` in this process."""

    def indexed(*sources, out=tmp_path / "gallery", **options):
        settings = {"model": str(model), "device": "cpu", "workers": 0} | options
        return build_index([str(s) for s in sources], out, IndexOptions(**settings))

    return indexed
