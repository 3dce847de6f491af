"""A case, and the folders that it is made of."""

import shutil
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """A case, ready to run.

    Attributes:
        what: The part that is wrong, and how.
        command: Arguments of `tireid`; `load FOLDER [IMAGE]` calls `tireid.load`.
        expected: accepted, refused or any.
    """

    what: str
    command: list[str]
    expected: str


class Place(NamedTuple):
    """Folders of a case.

    Attributes:
        samples: Valid files; only read.
        inside: Its own, which it may change.
        outside: Files that it may not even read.
    """

    samples: Path
    inside: Path
    outside: Path

    def copied(self, sample: str, name: str) -> Path:
        """Return a copy of a sample that the case may damage."""
        return Path(shutil.copytree(self.samples / sample, self.inside / name))
