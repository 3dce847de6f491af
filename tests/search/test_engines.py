"""Every engine keeps the one contract. A new one is a line in `ENGINES`."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import uuid

import pytest
import torch
from torch.nn import functional as F

from tireid.search.engines.embedded import FILE, EmbeddedEngine
from tireid.search.engines.filter_milvus import filter_milvus, terms
from tireid.search.engines.interface import Row
from tireid.search.engines.milvus import MilvusEngine
from tireid.search.where import parse_where

DIM = 16
ENGINES = {
    "embedded, float32": lambda folder: EmbeddedEngine(folder, DIM, "float32"),
    "embedded, float16": lambda folder: EmbeddedEngine(folder, DIM, "float16"),
    "embedded, int8": lambda folder: EmbeddedEngine(folder, DIM, "int8"),
}
TOLERANCE = {
    "embedded, float32": 1e-6,
    "embedded, float16": 1e-3,
    "embedded, int8": 1e-2,
    "milvus": 1e-6,
}
MILVUS = os.environ.get("TIREID_MILVUS", "")  # as in milvus://127.0.0.1:19530


@pytest.fixture
def collection():
    """Return the address of a collection of a Milvus server; it is dropped afterwards."""
    if not MILVUS:
        pytest.skip("needs a Milvus server: set TIREID_MILVUS=milvus://HOST:PORT")
    pymilvus = pytest.importorskip("pymilvus", reason="needs tireid[milvus]")
    name = f"test_{uuid.uuid4().hex}"
    yield f"{MILVUS}/{name}"
    client = pymilvus.MilvusClient(MILVUS.replace("milvus:", "http:"))
    for one in (name, f"{name}_fields"):
        client.drop_collection(one)
    client.close()


@pytest.fixture(params=[*ENGINES, "milvus"])
def opened(request, tmp_path):
    """Return a function that opens the engine on the same data again, and how exact it is."""
    made = []
    address = request.getfixturevalue("collection") if request.param == "milvus" else None

    def open_engine():
        if address is None:
            made.append(ENGINES[request.param](tmp_path))
        else:
            made.append(MilvusEngine(address, DIM))
        return made[-1]

    yield open_engine, TOLERANCE[request.param]
    for engine in made:
        engine.close()


@pytest.fixture
def engine(opened):
    return opened[0]()


def unit(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(values, dim=-1)


def row(number, **fields):
    path = f"/pictures/{number:04d}.jpg"
    return Row(number, path, "/pictures", 100 + number, 5, f"digest{number}", fields)


def fill(engine, count=300, seed=0):
    rows = [row(n, camera=n % 5, time=f"{n % 24:02d}:30:00") for n in range(count)]
    vectors = unit(count, DIM, seed=seed)
    engine.add(rows, vectors)
    return rows, vectors


def found_ids(engine, queries, k=10, where=None):
    condition = None if where is None else parse_where(where)
    return [[m.row.id for m in matches] for matches in engine.search(queries, k, condition)]


def test_an_empty_engine_finds_nothing(engine):
    assert engine.count() == 0
    assert engine.search(unit(2, DIM), 5) == [[], []]
    assert list(engine.rows()) == []


def test_rows_come_back_as_they_were_added(engine):
    odd = Row(2**62, "/a b/'ü\n\"%😀.jpg", "/a b", 2**40, 2**61, "d", {"x.y": None, "z": 1.5})
    engine.add([odd], unit(1, DIM))
    assert engine.get([odd.id, 7]) == {odd.id: odd}
    assert list(engine.rows()) == [odd]


def test_the_best_rows_are_found_best_first_with_their_scores(engine, opened):
    rows, vectors = fill(engine)
    queries = unit(7, DIM, seed=1)
    scores = (queries @ vectors.mT).topk(10).values
    found = engine.search(queries, 10)
    for query, matches, expected in zip(queries, found, scores, strict=True):
        values = torch.tensor([match.score for match in matches])
        torch.testing.assert_close(values, expected, rtol=0, atol=opened[1])
        assert values.tolist() == sorted(values.tolist(), reverse=True)
        own = query @ vectors[[match.row.id for match in matches]].mT
        torch.testing.assert_close(own, expected, rtol=0, atol=2 * opened[1])
        assert all(match.row == rows[match.row.id] for match in matches)


def test_equal_vectors_are_ordered_by_path(engine):
    vector = unit(1, DIM).expand(3, DIM)
    engine.add([row(9), row(2), row(5)], vector)
    assert found_ids(engine, vector[:1]) == [[2, 5, 9]]


def test_more_rows_than_there_are_is_all_of_them(engine):
    fill(engine, 4)
    assert sorted(found_ids(engine, unit(1, DIM), k=99)[0]) == [0, 1, 2, 3]


def test_adding_again_replaces_the_row_and_its_vector(engine):
    _, vectors = fill(engine)
    engine.add([row(3, camera=77)], -vectors[3:4])
    assert engine.count() == 300
    assert engine.get([3])[3].fields == {"camera": 77}
    assert found_ids(engine, -vectors[3:4], k=1) == [[3]]


def test_an_update_changes_what_is_known_and_keeps_the_vector(engine):
    _, vectors = fill(engine)
    engine.update([row(3, camera=77), row(999)])
    assert engine.count() == 300
    assert found_ids(engine, vectors[3:4], k=1, where="camera=77") == [[3]]


def test_what_is_removed_is_not_found(engine):
    _, vectors = fill(engine)
    assert found_ids(engine, vectors[3:4], k=1) == [[3]]
    engine.remove([3, 4, 12345])
    assert engine.count() == 298
    assert not {3, 4} & set(found_ids(engine, vectors[3:4], k=298)[0])


def test_the_rows_of_a_file_are_found_by_its_path(engine):
    rows, _ = fill(engine, 4)
    person = rows[2]._replace(id=77, digest="part", fields={"box": "1,2,3,4"})
    engine.add([person], unit(1, DIM, seed=3))
    found = engine.of_files([rows[1].path, rows[2].path, "/nowhere"])
    assert sorted(found) == sorted([rows[1], rows[2], person])


def test_a_vector_is_known_by_its_file_s_content(engine, opened):
    _, vectors = fill(engine)
    known = engine.vectors(["digest8", "digest9", "unknown"])
    assert sorted(known) == ["digest8", "digest9"]
    torch.testing.assert_close(known["digest8"], vectors[8], rtol=0, atol=opened[1])


@pytest.mark.parametrize(
    ("where", "keeps"),
    [
        ("camera=3", lambda n: n % 5 == 3),
        ("camera!=3", lambda n: n % 5 != 3),
        ("camera in (1, 4)", lambda n: n % 5 in (1, 4)),
        ("camera in (1, gate, 4)", lambda n: n % 5 in (1, 4)),
        ("camera<99999999999999999999", lambda n: True),
        ("camera='3'", lambda n: False),
        ("camera=3" + " or camera=9" * 2000, lambda n: n % 5 == 3),
        ("camera>1 and time>10:00", lambda n: n % 5 > 1 and n % 24 >= 10),
        ("time<=10:30 or camera=0", lambda n: n % 24 <= 10 or n % 5 == 0),
        ("not (camera<3)", lambda n: n % 5 >= 3),
        ("path ~ PICTURES/000", lambda n: n < 10),
        ("path='/pictures/0007.jpg'", lambda n: n == 7),
    ],
)
def test_a_filter_leaves_the_best_of_the_rows_that_match(engine, opened, where, keeps):
    _, vectors = fill(engine)
    query = unit(1, DIM, seed=2)
    kept = [n for n in range(300) if keeps(n)]
    assert engine.count(parse_where(where)) == len(kept)
    found = found_ids(engine, query, k=300, where=where)[0]
    assert sorted(found) == kept
    if kept:
        scores = (query @ vectors.mT)[0]
        assert scores[found[0]] >= scores[kept].max() - 2 * opened[1]


def test_a_field_of_any_name_can_be_asked_for(engine):
    engine.add([row(1, **{"shirt colour": "red", "not": 1}), row(2)], unit(2, DIM))
    for where in ("'shirt colour'=red", '"shirt colour" ~ RED and "not"=1'):
        assert found_ids(engine, unit(1, DIM), where=where) == [[1]]


def test_times_and_dates_match_fields_that_hold_both(engine):
    engine.add([row(1, time="2026-05-01 10:30:00"), row(2, time="2026-05-02T08:00")], unit(2, DIM))
    query = unit(1, DIM)
    assert found_ids(engine, query, where="time>10:00") == [[1]]
    assert found_ids(engine, query, where="time>=2026-05-02") == [[2]]
    assert found_ids(engine, query, where="time<2026-05-01T11:00") == [[1]]


def test_rows_without_a_field_match_no_comparison_with_it(engine):
    engine.add([row(1, place="gate"), row(2)], unit(2, DIM))
    query = unit(1, DIM)
    assert found_ids(engine, query, where="place!=hall") == [[1]]
    assert found_ids(engine, query, where="not place=gate") == [[2]]


@pytest.mark.parametrize("call", ["search", "count"])
def test_a_field_that_no_row_has_is_named_with_the_nearest(engine, call):
    fill(engine)
    where = parse_where("camrea=3")
    with pytest.raises(ValueError, match="got 'camrea'; did you mean camera"):
        engine.count(where) if call == "count" else engine.search(unit(1, DIM), 3, where)


def test_all_is_there_when_it_is_opened_again(opened):
    engine = opened[0]()
    rows, vectors = fill(engine)
    engine.close()
    again = opened[0]()
    assert list(again.rows()) == rows
    assert found_ids(again, vectors[5:6], k=1) == [[5]]
    assert sorted(again.fields()) == ["camera", "time"]


def test_a_second_one_sees_what_the_first_has_added(opened):
    writer, reader = opened[0](), opened[0]()
    _, vectors = fill(writer, 10)
    assert found_ids(reader, vectors[:1], k=1) == [[0]]
    writer.add([row(50)], -vectors[:1])
    assert found_ids(reader, -vectors[:1], k=1) == [[50]]


def test_rows_may_be_removed_while_they_are_read(engine):
    fill(engine, 1200)
    seen = []
    for one in engine.rows():
        seen.append(one.id)
        engine.remove([one.id])
    assert seen == list(range(1200))
    assert engine.count() == 0


class TestEmbedded:
    def test_a_folder_that_may_only_be_read_can_be_searched(self, tmp_path):
        writer = EmbeddedEngine(tmp_path, DIM)
        _, vectors = fill(writer, 10)
        reader = EmbeddedEngine(tmp_path, DIM, read_only=True)
        assert found_ids(reader, vectors[:1], k=1) == [[0]]
        writer.add([row(50)], -vectors[:1])
        assert found_ids(reader, -vectors[:1], k=1) == [[50]]
        with pytest.raises(Exception, match="readonly"):
            reader.remove([1])
        writer.close()
        reader.close()
        again = EmbeddedEngine(tmp_path, DIM, read_only=True)
        assert again.count() == 11
        again.close()

    @pytest.mark.parametrize("faster", [True, False])
    def test_half_precision_in_memory_finds_the_same(self, tmp_path, monkeypatch, faster):
        module = "tireid.search.engines.scoring"
        monkeypatch.setattr(f"{module}._SAMPLE", 8)
        monkeypatch.setattr(f"{module}._half_is_faster", lambda dim: faster)
        engine = EmbeddedEngine(tmp_path, DIM)
        _, vectors = fill(engine, 2000)
        queries = unit(20, DIM, seed=1)
        kept = F.normalize(vectors.half().double(), dim=1)
        best = (queries.double() @ kept.mT).topk(5).indices
        assert found_ids(engine, queries, k=5) == best.tolist()
        engine.close()

    def test_what_is_no_database_is_named(self, tmp_path):
        (tmp_path / "index.sqlite").write_text("not a database, but a text of some length" * 99)
        for read_only in (True, False):
            with pytest.raises(ValueError, match=r"index\.sqlite: expected the rows of an index"):
                EmbeddedEngine(tmp_path, DIM, read_only=read_only)

    def test_a_full_disk_is_named_and_loses_nothing(self, tmp_path):
        engine = EmbeddedEngine(tmp_path, DIM)
        rows, _ = fill(engine, 50)
        (pages,) = engine._connection.execute("PRAGMA page_count").fetchone()
        engine._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match=r"index\.sqlite: database or disk is full; nothing was"):
            engine.add([row(n) for n in range(100, 5000)], unit(4900, DIM))
        assert list(engine.rows()) == rows
        engine.close()

    def test_a_damaged_file_is_named(self, tmp_path):
        engine = EmbeddedEngine(tmp_path, DIM)
        fill(engine, 2000)
        engine.close()
        file = tmp_path / "index.sqlite"
        content = bytearray(file.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"index\.sqlite: expected the rows of an index"):
            EmbeddedEngine(tmp_path, DIM).count()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("UPDATE vectors SET vector = 'text' WHERE id = 1", "vectors of 64 bytes each"),
            ("UPDATE vectors SET vector = x'00'", "vectors of 64 bytes each"),
            ("UPDATE vectors SET vector = x'{nan}'", "of finite numbers"),
            ("DELETE FROM vectors WHERE id = 1", "8 images, 7 vectors, 7 of both"),
            ("UPDATE vectors SET id = 99 WHERE id = 1", "8 images, 8 vectors, 7 of both"),
            ("UPDATE images SET fields = '[]'", r"the row \("),
            ("UPDATE images SET fields = '{deep}'", r"the row \("),
            ("UPDATE images SET size = 'much'", r"the row \("),
            ("DROP TABLE names", "images"),
            ("CREATE VIEW more AS SELECT 1", "more"),
            ("CREATE TRIGGER more AFTER INSERT ON images BEGIN SELECT 1; END", "more"),
        ],
    )
    def test_rows_that_it_has_not_written_are_refused(self, tmp_path, change, message):
        engine = EmbeddedEngine(tmp_path, DIM, "float32")
        fill(engine, count=8)
        engine.close()
        with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database, database:
            deep = "[" * 100_000
            database.execute(change.replace("{nan}", "ff" * 64).replace("{deep}", deep))
        with pytest.raises(ValueError, match=rf"index\.sqlite: .*{message}"):
            EmbeddedEngine(tmp_path, DIM, "float32", read_only=True).search(unit(1, DIM), 8)

    def test_a_link_to_a_file_elsewhere_is_refused(self, tmp_path):
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        EmbeddedEngine(tmp_path / "one", DIM).close()
        (tmp_path / "two" / FILE).symlink_to(tmp_path / "one" / FILE)
        with pytest.raises(ValueError, match="expected a file inside"):
            EmbeddedEngine(tmp_path / "two", DIM)

    def test_int8_takes_a_quarter_of_float32(self, tmp_path):
        sizes = {}
        for storage in ("float32", "float16", "int8"):
            (tmp_path / storage).mkdir()
            engine = EmbeddedEngine(tmp_path / storage, 512, storage)
            engine.add([row(n) for n in range(2000)], unit(2000, 512))
            engine.close()
            sizes[storage] = (tmp_path / storage / "index.sqlite").stat().st_size
        assert sizes["float16"] < 0.65 * sizes["float32"]
        assert sizes["int8"] < 0.4 * sizes["float32"]

    @pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 7])
    def test_a_killed_process_leaves_whole_batches_only(self, tmp_path, after):
        code = (
            "import sys, torch; from pathlib import Path\n"
            "from tireid.search.engines.embedded import EmbeddedEngine\n"
            "from tireid.search.engines.interface import Row\n"
            f"engine = EmbeddedEngine(Path(sys.argv[1]), {DIM})\n"
            "for batch in range(100000):\n"
            "    ids = range(50 * batch, 50 * batch + 50)\n"
            "    rows = [Row(n, str(n), 's', 1, 1, str(n), {}) for n in ids]\n"
            f"    engine.add(rows, torch.full((50, {DIM}), float(batch)))\n"
            "    print(batch, flush=True)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(after):
                kept = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            kept = max([kept, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
        engine = EmbeddedEngine(tmp_path, DIM)
        assert engine.count() % 50 == 0
        assert engine.count() >= 50 * (kept + 1)  # all that was acknowledged
        ids = [one.id for one in engine.rows()]
        vectors = engine.vectors([str(n) for n in ids])
        assert all((vectors[str(n)] == n // 50).all() for n in ids)
        engine.close()


class TestMilvus:
    @pytest.mark.parametrize(
        "address", ["milvus://host", "milvus:///people", "milvus://host/a-b", "http://host/people"]
    )
    def test_an_address_that_is_none_is_refused(self, address):
        with pytest.raises(ValueError, match="engine: expected milvus://HOST:PORT/COLLECTION"):
            MilvusEngine(address, DIM)

    def test_without_pymilvus_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pymilvus", None)
        with pytest.raises(ValueError, match=r"pip install -e '\.\[milvus\]'"):
            MilvusEngine("milvus://127.0.0.1:1/people", DIM)

    def test_a_server_that_is_not_there_is_one_clear_error(self):
        pytest.importorskip("pymilvus", reason="needs tireid[milvus]")
        with pytest.raises(
            OSError, match=r"milvus://127\.0\.0\.1:1/people: Milvus does not answer"
        ):
            MilvusEngine("milvus://127.0.0.1:1/people", DIM)

    def test_only_a_writer_makes_a_collection(self, collection):
        with pytest.raises(FileNotFoundError, match="expected a collection, got none"):
            MilvusEngine(collection, DIM, read_only=True)

    def test_filters_are_expressions_over_stored_terms(self):
        fields = {"camera": 3, "time": "2026-05-01 10:30:00", "place": None}
        assert terms(fields) == {
            "camera#number": 3.0,
            "time#text": "2026-05-01 10:30:00",
            "time#time": "10:30:00",
            "time#date": "2026-05-01",
            "time#datetime": "2026-05-01 10:30:00",
        }
        where = parse_where("camera in (1, 2) and not time>10:00")
        camera, time = 'terms["camera#number"]', 'terms["time#time"]'
        expression = filter_milvus(where, ["camera", "time"], lambda name, text: [])
        assert f"((exists {camera}) and ({camera} in [1.0, 2.0]))" in expression
        assert f'(not (((exists {time}) and ({time} > "10:00:00"))))' in expression
