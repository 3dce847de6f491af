"""What an index was made with, in a file of its folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_type_hints

from tireid.files import folder_lock, write_json
from tireid.runs.foreign import check, read_json

FILE = "index.json"
FORMAT = 1
_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """What an index was made with.

    Attributes:
        model: Path of the model.
        fingerprint: Of the model, `Retriever.fingerprint`.
        trained_on: Name of the model's training data.
        dim: Width of the vectors.
        engine: Name of the engine.
        storage: How vectors are kept.
        detect: Name of the detector that finds people in scenes; empty: images show one person.
        every: Seconds between the frames of a video.
        format: Number of the layout of the folder.
    """

    model: str
    fingerprint: str
    trained_on: str
    dim: int
    engine: str = "embedded"
    storage: str = "float16"
    detect: str = ""
    every: float = 1.0
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write them into an index's folder."""
        write_json(folder / FILE, asdict(self))


def read_settings(folder: Path) -> IndexSettings:
    """Return the settings of an index.

    Raises:
        FileNotFoundError: If the folder holds no index.
        ValueError: If its file is damaged, or of a later version.
    """
    file = folder / FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder}: expected an index with {FILE} in it; "
            f"`tireid index IMAGES --out {folder}` makes one"
        )
    content = read_json(file, "the settings of an index", {"format": int}, inside=folder)
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{file}: expected the settings of an index, got format {content.get('format')}; this "
            f"version reads format {FORMAT}"
        )
    kinds = get_type_hints(IndexSettings)
    content = {"detect": IndexSettings.detect, "every": IndexSettings.every} | content
    check(content, kinds, file, complete=True)
    return IndexSettings(**{name: content[name] for name in kinds})


@contextmanager
def index_lock(folder: Path) -> Iterator[None]:
    """Make the folder of an index, and hold it against other writers.

    Raises:
        ValueError: If another process holds it, or it holds something else.
    """

    def refuse() -> None:
        raise ValueError(f"{folder}: in use by another `tireid index`; wait for its end")

    if folder.is_dir() and not (folder / FILE).is_file():
        others = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
        if others:
            raise ValueError(
                f"{folder}: expected an index, or a new or empty folder for one, got a folder "
                f"with {others[0]!r} in it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder / _LOCK, on_wait=refuse):
        yield
