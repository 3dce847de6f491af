import json
import os

import pytest

from tireid.data.custom import read_custom

TABLE = '''image,caption,person,split,camera
a/1.jpg,"a man, tall",anna,train,3
a/1.jpg,a tall man,anna,train,3
a/2.jpg,"he says ""no""",anna,train,
b.jpg,a woman,Åsa 7,val,1
c.jpg,a child,12,test,1
'''
SPLITLESS = "image,caption,person\n" + "".join(f"{n}.jpg,someone,p{n // 2}\n" for n in range(20))


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table beside its images' folder, and returns the folder."""

    def write(content, name="captions.csv"):
        (tmp_path / "imgs").mkdir(exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return tmp_path

    return write


def test_rows_of_an_image_are_one_record_and_persons_any_text(table):
    splits = read_custom(table(TABLE))
    assert [(r.image_path.name, r.pid, r.captions) for r in splits["train"]] == [
        ("1.jpg", 1, ("a man, tall", "a tall man")),
        ("2.jpg", 1, ('he says "no"',)),
    ]
    assert [r.pid for r in (*splits["val"], *splits["test"])] == [2, 0]  # 12, anna, Åsa 7
    assert splits["train"][0].image_path == table(TABLE) / "imgs/a/1.jpg"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("a/", "imgs/a/"),
        lambda text: text.replace("image,caption", " Image ,captions", 1),
        lambda text: text.replace("\na/2", "\n\na/2"),
        lambda text: text.replace("a man, tall", "a man; tall").replace(",", ";"),
    ],
    ids=["BOM", "CRLF", "with imgs/", "names", "blank line", "semicolons"],
)
def test_tables_as_programs_write_them_are_the_same(table, change):
    expected = read_custom(table(TABLE))
    got = read_custom(table(change(TABLE)))
    assert [r.image_path for r in got["train"]] == [r.image_path for r in expected["train"]]
    assert got["test"] == expected["test"]


def test_json_lines_and_lists_in_cells_hold_the_same_as_rows(table):
    rows = [
        {"image": "1.jpg", "caption": ["one", "two"], "person": 5, "split": "train", "x": [1]},
        {"image": "2.jpg", "captions": "three", "person": "5", "split": "train"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    read = read_custom(table(lines, "captions.jsonl"), val_fraction=0.0)
    (table(lines, "captions.jsonl") / "captions.jsonl").unlink()
    cells = 'image,caption,person,split\n1.jpg,"[""one"", ""two""]",5,train\n2.jpg,three,5,train\n'
    assert read == read_custom(table(cells), val_fraction=0.0)
    assert [(r.pid, r.captions) for r in read["train"]] == [(5, ("one", "two")), (5, ("three",))]


def test_images_may_lie_beside_the_table(tmp_path):
    (tmp_path / "captions.csv").write_text(TABLE)
    assert read_custom(tmp_path)["test"][0].image_path == tmp_path / "c.jpg"


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (TABLE.replace("b.jpg", "../b.jpg"), "csv", r"csv:5: field 'image'.*must not leave"),
        (TABLE.replace("Åsa 7", " "), "csv", r"csv:5: field 'person': expected a name or number"),
        (TABLE.replace("a woman", " "), "csv", r"csv:5: field 'caption': .*none blank"),
        (TABLE.replace(",val", ",dev"), "csv", r"csv:5: field 'split': .* got 'dev'"),
        (TABLE.replace(",val", ","), "csv", r"csv:5: field 'split': expected one of train"),
        (TABLE.replace("a child", "a, child"), "csv", r"csv:6: expected 5 cells.*got \['c.jpg'"),
        (TABLE.replace('"he', '"he"'), "csv", r"csv:4: expected cells of CSV"),
        (TABLE.replace("a woman", '"a woman'), "csv", r"csv:5: expected cells of CSV"),
        (
            TABLE.replace("image", "img", 1),
            "csv",
            r"csv:1: .*lacks image; did you mean image by im",
        ),
        (TABLE.replace("camera", "split"), "csv", r"csv:1: expected each column once"),
        (TABLE.encode("latin-1"), "csv", r"csv:5: expected text in UTF-8, got the byte 0xc5"),
        ("", "csv", "expected a line for each caption"),
        (TABLE + "b.jpg,he,anna,train,\n", "csv", "entries of val name.*: it leaks.*lines 7 and 5"),
        (TABLE + "d.jpg,he,anna,test,\n", "csv", "expected every identity in one split"),
        ('{"image": "1", "image": "2", "caption": "c", "person": 1}', "jsonl", "every field once"),
        ('{"image": "1", "caption": "c", "person": 1.5}', "jsonl", r"jsonl:1: field 'person'"),
        ('\n{"image": "1", "caption": "c"', "jsonl", r"jsonl:2: expected a JSON object.*Expecting"),
        ('{"image": "1", "caption": "c", "persn": 1}', "jsonl", "lacks person; did you mean"),
        ("[1]", "jsonl", r"captions.jsonl:1"),
    ],
)
def test_what_breaks_the_rules_is_named_by_file_and_line(table, content, name, expected):
    root = table(content, f"captions.{name}")
    for image in ("b.jpg", "c.jpg"):
        (root / "imgs" / image).touch()
    with pytest.raises(ValueError, match=expected):
        read_custom(root)


def test_two_tables_are_refused(table):
    table(TABLE)
    with pytest.raises(ValueError, match=r"got captions\.csv and captions\.jsonl; keep one"):
        read_custom(table("", "captions.jsonl"))


def test_a_table_too_large_to_read_is_refused_unread(tmp_path):
    (tmp_path / "captions.csv").touch()
    os.truncate(tmp_path / "captions.csv", 2**40)  # a hole, which takes no room
    with pytest.raises(ValueError, match=r"captions\.csv: expected at most 1,024 MiB"):
        read_custom(tmp_path)


def test_splits_that_are_missing_are_made_by_person_and_said(table):
    root = table(SPLITLESS)
    with pytest.warns(UserWarning, match="split_seed=0: train 7, val 1, test 2 persons"):
        splits = read_custom(root)
    pids = [{r.pid for r in records} for records in splits.values()]
    assert set.union(*pids) == set(range(10))
    assert sum(map(len, pids)) == 10
    with pytest.warns(UserWarning, match="split_seed=1"):
        assert read_custom(root, split_seed=1) != splits
    with pytest.raises(ValueError, match=r"persons enough to make them \(3 or more\), got 1"):
        read_custom(table("image,caption,person\n1.jpg,a,b\n"))


def test_a_row_that_comes_twice_is_warned_about(table):
    with pytest.warns(UserWarning, match="1 images have one caption twice.* lines 2"):
        read_custom(table(TABLE.replace("a tall man", '"a man, tall"')))


@pytest.mark.parametrize(
    "change",
    [
        lambda text, root: text.replace("a/", "a\\"),
        lambda text, root: text.replace("a/", f"{root}/imgs/a/"),
        lambda text, root: text.replace(",train", ",Training").replace(",val", ",valid"),
        lambda text, root: text.replace(",test", ",testing").replace(",val", ",validation"),
        lambda text, root: text.replace("a tall man", "\"['a tall man']\""),
    ],
    ids=["Windows", "absolute", "splits", "other splits", "a list of Python"],
)
def test_paths_splits_and_lists_as_others_write_them_are_the_same(table, change):
    root = table(TABLE)
    expected = read_custom(root)
    assert read_custom(table(change(TABLE, root))) == expected


def test_what_stands_for_nobody_is_no_person(table):
    with pytest.raises(ValueError, match=r"csv:2: field 'person'.*got 'nan'"):
        read_custom(table(TABLE.replace(",anna,", ",nan,")))


def test_other_names_of_columns_are_guessed_and_spread_json_is_named(table):
    with pytest.raises(ValueError, match=r"lacks image, person; did you mean image by file_path\?"):
        read_custom(table("file_path,caption,id\n1.jpg,a man,1\n"))
    (table("") / "captions.csv").unlink()
    with pytest.raises(ValueError, match=r"jsonl:1: expected a JSON object on each line, got '\['"):
        read_custom(table('[\n{"image": "1.jpg"}\n]\n', "captions.jsonl"))


def test_whole_numbers_of_persons_may_be_written_as_decimals(table):
    rows = [(1, "train"), (20, "val"), (3, "test")]
    expected = [1, 20, 3]
    for write in (str, lambda n: f"{n}.0"):
        lines = (f"{n}.jpg,someone,{write(n)},{split}" for n, split in rows)
        splits = read_custom(table("\n".join(["image,caption,person,split", *lines])))
        assert [r.pid for records in splits.values() for r in records] == expected
    entries = ({"image": f"{n}.jpg", "caption": "someone", "person": n / 1} for n, _ in rows)
    lines = (json.dumps(e | {"split": s}) for e, (_, s) in zip(entries, rows, strict=True))
    (table("") / "captions.csv").unlink()
    splits = read_custom(table("\n".join(lines), "captions.jsonl"))
    assert [r.pid for records in splits.values() for r in records] == expected
