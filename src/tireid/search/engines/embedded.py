"""The default engine: SQLite keeps rows and vectors in one file, a matrix in memory is searched.

A call that writes is one transaction. The file's journal is a write-ahead log, so that a process
that is killed loses what it had not committed and nothing else, and readers go on meanwhile.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tireid.runs.foreign import regular_file
from tireid.search.engines.filter_sql import filter_sql
from tireid.search.engines.interface import Match, Row, Vectors
from tireid.search.engines.scoring import best_rows, matrix_dtype
from tireid.search.engines.vector_bytes import from_bytes, to_bytes
from tireid.search.where import Condition

FILE = "index.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, source TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL, fields TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS digests ON images (digest);
CREATE INDEX IF NOT EXISTS paths ON images (path);
CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_COLUMNS = ", ".join(Row._fields)
_ADD = f"INSERT OR REPLACE INTO images ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_UPDATE = (
    "UPDATE images SET path = ?2, source = ?3, size = ?4, mtime_ns = ?5, digest = ?6, fields = ?7 "
    "WHERE id = ?1"
)
_TABLES = {"images", "vectors", "names"}
_KINDS = (int, str, str, int, int, str, str)  # of a row's columns
_AT_ONCE = 500  # parameters of a statement; rows of a read


class _Matrix(NamedTuple):
    version: int
    ids: np.ndarray
    vectors: Float[Tensor, "rows dim"]


class EmbeddedEngine:
    """Rows and vectors in a file of SQLite, searched exactly; see `Engine` for the methods.

    Args:
        folder: Folder of the file.
        dim: Width of the vectors.
        storage: How vectors are kept: `float16`, `float32` or `int8`.
        read_only: Whether the file must be there and is never changed. Threads may then share the
            engine if they take turns.

    Raises:
        ValueError: If the file is no database of rows, or lies elsewhere.
        FileNotFoundError: If it is missing and may not be made.
    """

    def __init__(
        self, folder: Path, dim: int, storage: str = "float16", *, read_only: bool = False
    ) -> None:
        self._file = folder / FILE
        self._dim = dim
        self._storage = storage
        self._matrix: _Matrix | None = None
        if read_only and not self._file.is_file():
            raise FileNotFoundError(f"{self._file}: expected the rows of an index, got no file")
        if self._file.is_symlink() or self._file.exists():
            regular_file(self._file, inside=folder)
        with self._clear_errors():
            self._connection = self._connect(read_only)
            self._check_tables()

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        if not read_only:
            connection = sqlite3.connect(self._file, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            return connection
        address = self._file.absolute().as_uri()
        for mode in ("mode=ro", "immutable=1"):  # a log cannot be opened in a read-only folder
            connection = sqlite3.connect(
                f"{address}?{mode}", uri=True, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("SELECT 1 FROM images LIMIT 1")
            except sqlite3.OperationalError:
                connection.close()
            else:
                return connection
        raise sqlite3.DatabaseError("an unreadable or an unfinished file")

    def _check_tables(self) -> None:
        """Refuse views and triggers, which can compute without end, and what is no index."""
        kinds = dict(self._connection.execute("SELECT name, type FROM sqlite_master"))
        tables = {name for name, kind in kinds.items() if kind == "table"}
        if not tables >= _TABLES or not set(kinds.values()) <= {"table", "index"}:
            raise sqlite3.DatabaseError(f"{', '.join(map(str, kinds)) or 'no table'}")

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._clear_errors():
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Name the file in errors of the disk, of rights, and of a damaged file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._file}: {error}; nothing was lost") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self._file}: expected the rows of an index, got {error}; index again, or delete "
                "the folder first if that does not help"
            ) from error

    def add(self, rows: Sequence[Row], vectors: Vectors) -> None:
        """See `Engine.add`."""
        blobs = to_bytes(vectors, self._storage)
        with self._transaction() as db:
            self._add_names(db, rows)
            db.executemany(_ADD, map(_to_sql, rows))
            pairs = zip((row.id for row in rows), blobs, strict=True)
            db.executemany("INSERT OR REPLACE INTO vectors (id, vector) VALUES (?, ?)", pairs)
        self._matrix = None

    def update(self, rows: Sequence[Row]) -> None:
        """See `Engine.update`."""
        with self._transaction() as db:
            self._add_names(db, rows)
            db.executemany(_UPDATE, map(_to_sql, rows))

    def remove(self, ids: Sequence[int]) -> None:
        """See `Engine.remove`."""
        with self._transaction() as db:
            for table in ("images", "vectors"):
                db.executemany(f"DELETE FROM {table} WHERE id = ?", ((i,) for i in ids))  # noqa: S608
        self._matrix = None

    def get(self, ids: Sequence[int]) -> dict[int, Row]:
        """See `Engine.get`."""
        with self._clear_errors():
            rows = list(map(_from_sql, self._chosen("SELECT {} FROM images", ids)))
        return {row.id: row for row in rows}

    def of_files(self, paths: Sequence[str]) -> list[Row]:
        """See `Engine.of_files`."""
        return list(map(_from_sql, self._chosen("SELECT {} FROM images", paths, "path")))

    def vectors(self, digests: Sequence[str]) -> dict[str, Float[Tensor, " dim"]]:
        """See `Engine.vectors`."""
        query = "SELECT digest, vector FROM images JOIN vectors USING (id)"
        found = dict(self._chosen(query, digests, "digest"))
        with self._clear_errors():
            return dict(zip(found, self._unpacked(list(found.values())), strict=True))

    def rows(self) -> Iterator[Row]:
        """See `Engine.rows`."""
        last = -1  # a cursor left open would keep the log from being cleared
        query = f"SELECT {_COLUMNS} FROM images WHERE id > ? ORDER BY id LIMIT {_AT_ONCE}"  # noqa: S608
        while chunk := self._read(query, (last,)):
            with self._clear_errors():
                rows = list(map(_from_sql, chunk))
            yield from rows
            last = chunk[-1][0]

    def search(self, queries: Vectors, k: int, where: Condition | None = None) -> list[list[Match]]:
        """See `Engine.search`."""
        with self._transaction("BEGIN"):  # rows, filter and vectors of one state
            matrix = self._current_matrix()
            allowed = None
            if where is not None:
                ids = np.fromiter((i for (i,) in self._matching("id", where)), np.int64)
                allowed = torch.from_numpy(np.isin(matrix.ids, ids))
            best = best_rows(queries, matrix.vectors, k, allowed)
            found = self.get(sorted({int(matrix.ids[p]) for one in best for p in one.positions}))
        return [
            sorted(
                (
                    Match(found[int(matrix.ids[position])], score)
                    for position, score in zip(*one, strict=True)
                ),
                key=lambda match: (-match.score, match.row.path),
            )
            for one in best
        ]

    def count(self, where: Condition | None = None) -> int:
        """See `Engine.count`."""
        return self._matching("count(*)", where)[0][0]

    def fields(self) -> list[str]:
        """See `Engine.fields`."""
        return [str(name) for (name,) in self._read("SELECT name FROM names")]

    def close(self) -> None:
        """See `Engine.close`."""
        self._matrix = None
        self._connection.close()

    def _add_names(self, db: sqlite3.Connection, rows: Sequence[Row]) -> None:
        names = {name for row in rows for name in row.fields}
        db.executemany("INSERT OR IGNORE INTO names (name) VALUES (?)", ((n,) for n in names))

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._clear_errors():
            return self._connection.execute(sql, values).fetchall()

    def _matching(self, columns: str, where: Condition | None) -> list[Any]:
        sql, values = ("1", []) if where is None else filter_sql(where, self.fields())
        return self._read(f"SELECT {columns} FROM images WHERE {sql}", values)  # noqa: S608

    def _chosen(self, query: str, keys: Sequence[Any], column: str = "id") -> Iterator[Any]:
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            sql = f"{query.format(_COLUMNS)} WHERE {column} IN ({marks})"
            yield from self._read(sql, some)

    def _current_matrix(self) -> _Matrix:
        """Return all vectors by rising id, read again if another process has changed them."""
        db = self._connection
        db.execute("SELECT 1 FROM images LIMIT 1").fetchone()  # begins to read this state
        version: int = db.execute("PRAGMA data_version").fetchone()[0]
        if self._matrix is None or self._matrix.version != version:
            self._matrix = None  # before memory is taken for another
            rows = self._count_vectors(db)
            ids = np.empty(rows, np.int64)
            vectors = torch.empty(
                rows, self._dim, dtype=matrix_dtype(rows, self._dim, self._storage)
            )
            cursor, place = db.execute("SELECT id, vector FROM vectors ORDER BY id"), 0
            while chunk := cursor.fetchmany(_AT_ONCE):
                part = slice(place, place + len(chunk))
                ids[part] = [key for key, _ in chunk]
                vectors[part] = self._unpacked([blob for _, blob in chunk])
                place = part.stop
            self._matrix = _Matrix(version, ids, vectors)
        return self._matrix

    def _count_vectors(self, db: sqlite3.Connection) -> int:
        """Return the number of rows, each of which must have a vector."""
        images, vectors, both = (
            db.execute(f"SELECT count(*) FROM {tables}").fetchone()[0]  # noqa: S608 -- fixed
            for tables in ("images", "vectors", "images JOIN vectors USING (id)")
        )
        if not images == vectors == both:
            raise sqlite3.DatabaseError(f"{images:,} images, {vectors:,} vectors, {both:,} of both")
        return images

    def _unpacked(self, blobs: Iterable[object]) -> Vectors:
        try:
            return from_bytes(blobs, self._dim, self._storage)
        except ValueError as error:
            raise sqlite3.DatabaseError(str(error)) from error


def _to_sql(row: Row) -> tuple[Any, ...]:
    return (*row[:-1], json.dumps(row.fields, ensure_ascii=False, sort_keys=True))


def _from_sql(values: tuple[Any, ...]) -> Row:
    """Return a row.

    Raises:
        DatabaseError: If its values are others than `_to_sql` returns.
    """
    try:
        fields = json.loads(values[-1])
    except (TypeError, ValueError, RecursionError):
        fields = None
    if tuple(map(type, values)) != _KINDS or not isinstance(fields, dict):
        raise sqlite3.DatabaseError(f"the row {values!r:.200}")
    return Row._make((*values[:-1], fields))
