"""The one interface of all engines, and the rows that they hold."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from tireid.search.where import Condition, Value

Vectors = Float[Tensor, "rows dim"]


class Row(NamedTuple):
    """What an index knows of one image: a file, or a person in a scene.

    Attributes:
        id: Number made from the path and the part, the same on every machine.
        path: Absolute path of the file; the people of a scene are rows of one file.
        source: The folder, list, pattern or file that brought it.
        size: Bytes of the file when it was read.
        mtime_ns: Time of the file's last change then, in nanoseconds.
        digest: SHA-256 of the file's content, or of it and the part.
        fields: Camera, time and whatever else is known of it, by name.
    """

    id: int
    path: str
    source: str
    size: int
    mtime_ns: int
    digest: str
    fields: dict[str, Value]


class Match(NamedTuple):
    """An image that a query has found.

    Attributes:
        row: The image.
        score: Cosine similarity of query and image.
    """

    row: Row
    score: float


@runtime_checkable
class Engine(Protocol):
    """Keeps rows with a unit-norm vector each, and finds the nearest to a query.

    A call that writes is done whole or not at all, and is safely kept when it returns.
    """

    def add(self, rows: Sequence[Row], vectors: Vectors) -> None:
        """Add rows with their vectors; replaces those of the same ids."""
        ...

    def update(self, rows: Sequence[Row]) -> None:
        """Replace what is known of rows that are there; their vectors stay."""
        ...

    def remove(self, ids: Sequence[int]) -> None:
        """Remove rows; those that are not there are left out."""
        ...

    def get(self, ids: Sequence[int]) -> dict[int, Row]:
        """Return the rows that are there, by id."""
        ...

    def of_files(self, paths: Sequence[str]) -> list[Row]:
        """Return all rows of some files."""
        ...

    def vectors(self, digests: Sequence[str]) -> dict[str, Float[Tensor, " dim"]]:
        """Return a stored vector of each file content that is there, by digest."""
        ...

    def rows(self) -> Iterator[Row]:
        """Yield all rows by rising id; the rows may be changed in the meantime."""
        ...

    def search(self, queries: Vectors, k: int, where: Condition | None = None) -> list[list[Match]]:
        """Return the best `k` rows of each query, best first; equal scores by path.

        Raises:
            ValueError: If `where` names a field that no row has.
        """
        ...

    def count(self, where: Condition | None = None) -> int:
        """Return the number of rows.

        Raises:
            ValueError: If `where` names a field that no row has.
        """
        ...

    def fields(self) -> list[str]:
        """Return the names of all fields that rows have or had."""
        ...

    def close(self) -> None:
        """Free what the engine holds; it cannot be used afterwards."""
        ...
