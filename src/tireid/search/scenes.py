"""Which scenes have been looked through for people, in a small file each."""

from dataclasses import asdict, dataclass
from pathlib import Path

from tireid.files import write_json
from tireid.runs.foreign import read_json
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
        try:
            content = read_json(self._file(path), "a scene", _KINDS, inside=self._folder)
            state = SceneState(**content)
        except (OSError, ValueError, TypeError):  # not there, or damaged: it is looked at again
            return None
        return state if state.path == path else None

    def keep(self, state: SceneState) -> None:
        """Write the state of a file."""
        file = self._file(state.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(state))

    def drop(self, path: str) -> None:
        """Forget a file."""
        self._file(path).unlink(missing_ok=True)

    def _file(self, path: str) -> Path:
        name = f"{image_id(path):016x}"
        return self._folder / name[-2:] / f"{name}.json"
