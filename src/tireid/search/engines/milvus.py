"""The engine for those who outgrow a machine: rows and vectors on a Milvus server or cluster.

A row is one entity, written by its id, so that a call that was cut off can be made again.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tireid.search.engines.filter_milvus import filter_milvus, quoted, terms
from tireid.search.engines.interface import Match, Row, Vectors
from tireid.search.where import PATH, Condition

SCHEME = "milvus"
TOKEN_VARIABLE = "TIREID_MILVUS_TOKEN"  # noqa: S105 -- its name
_SECONDS = 30.0  # to wait for an answer
_AT_ONCE, _QUERIES = 500, 100
_LONGEST = 65_535  # bytes of a text that Milvus holds
_COLUMNS = list(Row._fields)


class MilvusEngine:
    """Rows and vectors in a collection of Milvus, searched exactly by all its nodes; see `Engine`.

    A second collection, of the same name and `_fields`, holds the names of fields.

    Args:
        address: As in `milvus://host:19530/collection`; `TIREID_MILVUS_TOKEN` is the token or
            `user:password`, if the server asks for one.
        dim: Width of the vectors.
        read_only: Whether the collection must be there.

    Raises:
        ValueError: If the address is none, or pymilvus is missing.
        FileNotFoundError: If the collection is missing and may not be made.
        OSError: If the server does not answer.
    """

    def __init__(self, address: str, dim: int, *, read_only: bool = False) -> None:
        parts = urlsplit(address)
        self._name = parts.path.strip("/")
        if parts.scheme != SCHEME or not parts.hostname or not self._name.isidentifier():
            raise ValueError(
                f"engine: expected milvus://HOST:PORT/COLLECTION, a name of letters, digits and _, "
                f"got {address!r}"
            )
        self._address = address
        self._names: set[str] = set()
        library = _library()
        with self._clear_errors():
            self._client = library.MilvusClient(
                f"http://{parts.hostname}:{parts.port or 19530}",
                token=os.environ.get(TOKEN_VARIABLE, ""),
                timeout=_SECONDS,
            )
            for name, make in (
                (self._name, self._make_rows),
                (self._name_of_fields, self._make_fields),
            ):
                if not self._client.has_collection(name):
                    if read_only:
                        raise FileNotFoundError(f"{address}: expected a collection, got none")
                    make(name, dim)
                self._client.load_collection(name, timeout=4 * _SECONDS)

    @property
    def _name_of_fields(self) -> str:
        return f"{self._name}_fields"

    def _make_rows(self, name: str, dim: int) -> None:
        kinds = _library().DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.INT64, is_primary=True)
        for column in ("path", "source"):
            schema.add_field(column, kinds.VARCHAR, max_length=_LONGEST)
        schema.add_field("digest", kinds.VARCHAR, max_length=64)
        for column in ("size", "mtime_ns"):
            schema.add_field(column, kinds.INT64)
        for column in ("fields", "terms"):
            schema.add_field(column, kinds.JSON)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
        self._make(name, schema, "IP")

    def _make_fields(self, name: str, _: int) -> None:
        kinds = _library().DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("name", kinds.VARCHAR, is_primary=True, max_length=_LONGEST)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=2)  # it must have one
        self._make(name, schema, "L2")

    def _make(self, name: str, schema: Any, metric: str) -> None:
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type=metric)
        self._client.create_collection(
            name, schema=schema, index_params=index, consistency_level="Strong"
        )

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Say what to do when the server does not answer."""
        from grpc import RpcError

        try:
            yield
        except (_library().MilvusException, RpcError) as error:
            reason = str(getattr(error, "message", "") or error).splitlines()[0]
            raise OSError(
                f"{self._address}: Milvus does not answer as expected ({reason}); nothing that it "
                "has confirmed is lost: start it, and the same command goes on"
            ) from error

    def add(self, rows: Sequence[Row], vectors: Vectors) -> None:
        """See `Engine.add`."""
        self._add_names(rows)
        self._upsert(rows, vectors.float().numpy())

    def update(self, rows: Sequence[Row]) -> None:
        """See `Engine.update`."""
        self._add_names(rows)
        by_id = {row.id: row for row in rows}
        found = self._chosen("id", list(by_id), ["id", "vector"])
        kept = [by_id[one["id"]] for one in found]
        self._upsert(kept, np.array([one["vector"] for one in found], np.float32))

    def remove(self, ids: Sequence[int]) -> None:
        """See `Engine.remove`."""
        with self._clear_errors():
            for start in range(0, len(ids), _AT_ONCE):
                some = list(ids[start : start + _AT_ONCE])
                self._client.delete(self._name, ids=some, timeout=_SECONDS)

    def get(self, ids: Sequence[int]) -> dict[int, Row]:
        """See `Engine.get`."""
        return {row.id: row for row in map(_row, self._chosen("id", ids, _COLUMNS))}

    def of_files(self, paths: Sequence[str]) -> list[Row]:
        """See `Engine.of_files`."""
        return list(map(_row, self._chosen("path", paths, _COLUMNS)))

    def vectors(self, digests: Sequence[str]) -> dict[str, Float[Tensor, " dim"]]:
        """See `Engine.vectors`."""
        found = self._chosen("digest", digests, ["digest", "vector"])
        return {one["digest"]: torch.tensor(one["vector"]) for one in found}

    def rows(self) -> Iterator[Row]:
        """See `Engine.rows`."""
        yield from map(_row, self._after("id >= 0", _COLUMNS))

    def search(self, queries: Vectors, k: int, where: Condition | None = None) -> list[list[Match]]:
        """See `Engine.search`."""
        wanted = "" if where is None else self._filter(where)
        found: list[Any] = []
        with self._clear_errors():
            for block in queries.split(_QUERIES):
                found += self._client.search(
                    self._name,
                    data=block.tolist(),
                    limit=k,
                    filter=wanted,
                    output_fields=_COLUMNS,
                    consistency_level="Strong",
                    timeout=_SECONDS,
                )
        matches = ([Match(_row(hit["entity"]), hit["distance"]) for hit in one] for one in found)
        return [sorted(one, key=lambda match: (-match.score, match.row.path)) for one in matches]

    def count(self, where: Condition | None = None) -> int:
        """See `Engine.count`."""
        wanted = "" if where is None else self._filter(where)
        return self._query(wanted, ["count(*)"])[0]["count(*)"]

    def fields(self) -> list[str]:
        """See `Engine.fields`."""
        with self._clear_errors():
            found = self._client.query(
                self._name_of_fields, filter='name >= ""', output_fields=["name"],
                consistency_level="Strong", timeout=_SECONDS,
            )  # fmt: skip
        return [one["name"] for one in found]

    def close(self) -> None:
        """See `Engine.close`."""
        self._client.close()

    def _add_names(self, rows: Sequence[Row]) -> None:
        new = {name for row in rows for name in row.fields} - self._names
        if new:
            entities = [{"name": name, "vector": [0.0, 0.0]} for name in sorted(new)]
            with self._clear_errors():
                self._client.upsert(self._name_of_fields, data=entities, timeout=_SECONDS)
            self._names |= new

    def _upsert(self, rows: Sequence[Row], vectors: np.ndarray) -> None:
        with self._clear_errors():
            for start in range(0, len(rows), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                entities = [
                    row._asdict() | {"terms": terms(row.fields), "vector": vector}
                    for row, vector in zip(rows[part], vectors[part], strict=True)
                ]
                self._client.upsert(self._name, data=entities, timeout=_SECONDS)

    def _query(self, wanted: str, columns: Sequence[str], limit: int | None = None) -> list[Any]:
        options = {} if limit is None else {"limit": limit}
        with self._clear_errors():
            found = self._client.query(
                self._name, filter=wanted, output_fields=list(columns),
                consistency_level="Strong", timeout=_SECONDS, **options,
            )  # fmt: skip
        return list(found)

    def _chosen(self, column: str, keys: Sequence[Any], columns: Sequence[str]) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = ", ".join(
                quoted(key) if isinstance(key, str) else str(key)
                for key in keys[start : start + _AT_ONCE]
            )
            found += self._query(f"{column} in [{some}]", columns)
        return found

    def _after(self, wanted: str, columns: Sequence[str]) -> Iterator[Any]:
        """Yield what matches by rising id."""
        last = -1
        while found := self._query(f"id > {last} and ({wanted})", columns, _AT_ONCE):
            found.sort(key=lambda one: one["id"])
            yield from found
            last = found[-1]["id"]

    def _filter(self, where: Condition) -> str:
        return filter_milvus(where, self.fields(), self._containing)

    def _containing(self, name: str, text: str) -> list[int]:
        """Return the ids of rows whose field contains a text: Milvus knows beginnings only."""
        known = (
            (one["id"], one["path"] if name == PATH else one["fields"].get(name))
            for one in self._after("id >= 0", ["id", "path", "fields"])
        )
        wanted = text.lower()
        return [key for key, value in known if value is not None and wanted in str(value).lower()]


def _library() -> Any:
    try:
        import pymilvus  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "engine: milvus needs pymilvus; type: pip install -e '.[milvus]'"
        ) from error
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # one message is enough
    return pymilvus


def _row(entity: Any) -> Row:
    return Row(*(entity[column] for column in _COLUMNS))
