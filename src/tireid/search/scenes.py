"""Which scenes have been looked through for people, in a small file each."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tireid.files import write_json
from tireid.runs.foreign import read_json
from tireid.search.engines.interface import Engine
from tireid.search.parts import image_id

FOLDER = "scenes"
_KINDS = {"path": str, "size": int, "mtime_ns": int, "digest": str, "until": (float,)}


@dataclass(frozen=True)
class SceneState:
    """How far an image or a video has been looked through.

    Attributes:
        path: The file.
        size: Bytes of the file.
        mtime_ns: Time of its last change, in nanoseconds.
        digest: SHA-256 of its content.
        until: Time of the last frame whose people are in the index; None: all of them are.
    """

    path: str
    size: int
    mtime_ns: int
    digest: str
    until: float | None = None


class Scenes:
    """The states of the scenes of an index; each is written when its rows are safely kept.

    Args:
        folder: Folder of the index.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def get(self, path: str) -> SceneState | None:
        """Return the state of a file; None if nothing is known of it."""
        state = self._read(self._file(path))
        return state if state is not None and state.path == path else None

    def all(self) -> Iterator[SceneState]:
        """Yield the states of all files."""
        for file in sorted(self._folder.glob("*/*.json")):
            if state := self._read(file):
                yield state

    def keep(self, state: SceneState) -> None:
        """Write the state of a file."""
        file = self._file(state.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(state))

    def drop(self, path: str) -> None:
        """Forget a file."""
        self._file(path).unlink(missing_ok=True)

    def _read(self, file: Path) -> SceneState | None:
        try:
            content = read_json(file, "a scene", _KINDS, inside=self._folder)
            return SceneState(**content)
        except (OSError, ValueError, TypeError):  # not there, or damaged: it is looked at again
            return None

    def _file(self, path: str) -> Path:
        name = f"{image_id(path):016x}"
        return self._folder / name[-2:] / f"{name}.json"


def remove_others(engine: Engine, path: str, state: SceneState | None) -> int:
    """Remove the people of an earlier content of a file from an index, and return their number.

    Args:
        engine: Holds the rows.
        path: The file.
        state: Of the content that stays; None: none does.
    """
    now = None if state is None else (state.size, state.mtime_ns)
    gone = [row.id for row in engine.of_files([path]) if (row.size, row.mtime_ns) != now]
    engine.remove(gone)
    return len(gone)
