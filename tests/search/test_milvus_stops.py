"""A Milvus server that stops half-way: one message, and the same command goes on.

No server can run in these tests, so a stand-in for pymilvus keeps entities in memory and raises the
errors of its connection; `TIREID_MILVUS` runs the suite of all engines on a real one.
"""

import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

from tireid.cli import index as command
from tireid.search.index import Index

ADDRESS = "milvus://127.0.0.1:19530/people"


class MilvusException(Exception):  # noqa: N818 -- its name
    """As pymilvus raises it after its retries."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


class RpcError(Exception):
    """As grpc raises it when a channel breaks."""


class Server:
    """What is kept, and how many calls that write are answered before it stops."""

    def __init__(self):
        self.collections = {}
        self.writes_left = 10**9
        self.error = MilvusException("Retry run out of 75 retry times, message=server unavailable")

    def written(self):
        self.writes_left -= 1
        self.answers()

    def answers(self):
        if self.writes_left < 0:
            raise self.error


class Client:
    """The calls of `pymilvus.MilvusClient` that the engine makes."""

    def __init__(self, server):
        self.server = server
        server.answers()

    def has_collection(self, name):
        return name in self.server.collections

    def create_schema(self, **_):
        return SimpleNamespace(add_field=lambda *_, **__: None)

    def prepare_index_params(self):
        return SimpleNamespace(add_index=lambda *_, **__: None)

    def create_collection(self, name, **_):
        self.server.collections[name] = {}

    def load_collection(self, name, **_):
        self.server.answers()

    def upsert(self, name, data, **_):
        self.server.written()
        self.server.collections[name].update({one.get("id", one.get("name")): one for one in data})

    def delete(self, name, ids, **_):
        self.server.written()
        for key in ids:
            self.server.collections[name].pop(key, None)

    def query(self, name, *, filter="", output_fields=(), limit=None, **_):
        self.server.answers()
        found = [one for one in self.server.collections[name].values() if _matches(one, filter)]
        if list(output_fields) == ["count(*)"]:
            return [{"count(*)": len(found)}]
        return sorted(found, key=lambda one: one.get("id", 0))[:limit]

    def search(self, *_, **__):
        self.server.answers()

    def close(self):
        pass


def _matches(entity, wanted):
    if chosen := re.fullmatch(r"(\w+) in \[(.*)\]", wanted):
        return str(entity[chosen[1]]) in re.sub(r'"', "", chosen[2]).split(", ")
    after = re.match(r"id > (-?\d+)", wanted)
    return after is None or entity["id"] > int(after[1])


@pytest.fixture
def server(monkeypatch):
    running = Server()
    library, grpc = ModuleType("pymilvus"), ModuleType("grpc")
    library.MilvusException, grpc.RpcError = MilvusException, RpcError
    library.MilvusClient = lambda *_, **__: Client(running)
    kinds = ("INT64", "VARCHAR", "JSON", "FLOAT_VECTOR")
    library.DataType = SimpleNamespace(**dict.fromkeys(kinds))
    monkeypatch.setitem(sys.modules, "pymilvus", library)
    monkeypatch.setitem(sys.modules, "grpc", grpc)
    return running


@pytest.fixture
def run(monkeypatch, capsys, pictures, model, tmp_path):
    """Return a function that runs `tireid index`, and returns its exit code and what it said."""
    words = [str(pictures), "--model", str(model), "--engine", ADDRESS, "--batch-size=4"]
    words += ["--out", str(tmp_path / "gallery"), "--device=cpu", "--workers=0"]

    def ran():
        monkeypatch.setattr(sys, "argv", ["tireid index", *words])
        code = 0
        try:
            command.main()
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr()

    return ran


@pytest.mark.parametrize("error", [None, RpcError("Connection reset by peer")])
def test_indexing_stops_with_one_message_and_goes_on_where_it_was(server, run, error):
    server.error = error or server.error
    server.writes_left = 2  # batches of four
    code, said = run()
    assert code == 1
    (line,) = (line for line in said.err.splitlines() if "Milvus" in line)
    assert f"{ADDRESS}: Milvus does not answer" in line
    assert "nothing that it has confirmed is lost" in " ".join(said.err.split())
    assert "Traceback" not in said.err
    assert len(server.collections["people"]) == 8
    server.writes_left = 10**9
    code, said = run()
    assert code == 0
    assert "12 images (4 added, 0 updated, 0 removed, 8 unchanged; 4 embedded)" in " ".join(
        said.out.split()
    )


def test_a_search_says_that_the_server_has_stopped(server, run, tmp_path):
    assert run()[0] == 0
    with Index.open(tmp_path / "gallery", device="cpu") as index:
        query = index.embed(["a woman"])
        server.writes_left = -1
        with pytest.raises(OSError, match="Milvus does not answer as expected"):
            index.find(query)
