"""What tests of the index share: a model of random weights and a folder of images."""

import pytest
from PIL import Image

import tireid
from tireid.search.indexing import IndexOptions, build_index


@pytest.fixture(scope="session")
def model(untrained_run):
    """Return a run folder; its weights are random."""
    return untrained_run("model=lgur")


@pytest.fixture(scope="session")
def draw():
    """Return a function that writes an image unlike those of other numbers."""

    def drawn(path, number=0, size=(30, 70)):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", size, (37 * number % 256, 91 * number % 256, 53 * number % 256))
        image.paste((250, 10 * number % 256, 80), (0, 0, 12, 5 + number % 60))
        image.save(path)
        return path

    return drawn


@pytest.fixture(scope="session")
def fill(draw):
    """Return a function that writes 12 images into two folders of a folder."""

    def filled(folder):
        for number in range(12):
            name = f"{number:04d}_c{number % 3}_1030{number:02d}.png"
            draw(folder / f"day {number % 2}" / name, number)
        return folder

    return filled


@pytest.fixture
def pictures(tmp_path, fill):
    """Return a folder of 12 images in two folders."""
    return fill(tmp_path / "pictures")


@pytest.fixture(scope="session")
def kept(fill, model, tmp_path_factory):
    """Return `pictures` and an open index of them, `gallery` beside it, for reading only."""
    place = tmp_path_factory.mktemp("kept")
    options = {"model": str(model), "device": "cpu", "workers": 0, "storage": "float32"}
    options["name_pattern"] = r"_c(?P<camera>\d+)_(?P<time>\d{6})"
    pictures = fill(place / "pictures")
    build_index([str(pictures)], place / "gallery", IndexOptions(**options))
    with tireid.Index.open(place / "gallery", device="cpu") as index:
        yield pictures, index


@pytest.fixture
def index_it(model, tmp_path):
    """Return a function that indexes sources into `gallery` in this process."""

    def indexed(*sources, out=tmp_path / "gallery", **options):
        settings = {"model": str(model), "device": "cpu", "workers": 0} | options
        return build_index([str(s) for s in sources], out, IndexOptions(**settings))

    return indexed
