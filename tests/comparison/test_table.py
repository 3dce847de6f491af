"""Tables of results, against means worked out by hand."""

import re
from pathlib import Path

import pytest

from tireid.cli.compare import compare
from tireid.comparison.table import columns, fill, markdown, table
from tireid.runs.results import Result, read_csv, write_csv


def result(label="a", seed=1, r1=50.0, **other):
    fields = {
        "dataset": "synthetic",
        "selection": "val",
        "steps": 200,
        "seconds": 10.0,
        "images_per_second": 100.0 + seed,
        "parameters": 2_340_000,
        "test_data": "f00",
        "settings": "5e7",
        "commit": "",
    }
    return Result(label=label, seed=seed, metrics={"test/R1": r1}, **fields | other)


def test_rows_are_means_with_the_sample_deviation():
    head, rows = table([result(seed=s, r1=r) for s, r in enumerate((40.0, 44.0, 48.0))])
    assert head == ["run", "seeds", "R@1", "million weights", "steps"]
    assert rows == [["a", "3", "44.0 ± 4.0", "2.3", "200"]]


def test_one_run_has_no_deviation_and_other_work_is_another_row():
    others = [{"label": "b"}, {"steps": 100}, {"test_data": "bar"}, {"settings": "0e4"}]
    _, rows = table([result(), *(result(**other) for other in others)])
    assert [row[2] for row in rows] == ["50.0"] * 5


def test_a_run_given_twice_counts_once():
    _, rows = table([result(seed=1, r1=40.0), result(seed=2, r1=50.0), result(seed=1, r1=40.0)])
    assert [row[:3] for row in rows] == [["a", "2", "45.0 ± 7.1"]]


def test_several_data_sets_and_a_choice_on_test_are_said():
    head, rows = table([result(), result(dataset="cuhk_pedes", selection="test")])
    assert "data set" in head
    assert rows[1][:2] == ["a (CHOSEN ON TEST)", "cuhk_pedes"]


def test_fill_replaces_between_markers_only():
    text = "before\n<!-- t -->\nold\n<!-- /t -->\nafter"
    assert fill(text, "t", "new") == "before\n<!-- t -->\nnew\n<!-- /t -->\nafter"
    with pytest.raises(ValueError, match="expected one <!-- u -->"):
        fill(text, "u", "new")


@pytest.mark.parametrize(("page", "tables"), [("docs/results.md", "*"), ("README.md", "start")])
def test_the_tables_of_pages_are_those_of_their_results(page, tables):
    """`tireid compare results/*.csv --no-page --fill docs/results.md` writes them again."""
    root = Path(__file__).parents[2]
    text = (root / page).read_text(encoding="utf-8")
    files = sorted((root / "results").glob(f"{tables}.csv"))
    assert files
    for file in files:
        assert fill(text, file.stem, markdown(*table(read_csv(file)))) == text, file.name
    filled = re.findall(r"<!-- /?\w+ -->\n\|[^<]*<!-- /(\w+) -->", text)
    assert sorted(filled) == [file.stem for file in files]  # no table without its runs


def test_no_column_is_cut_in_a_narrow_window(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    write_csv([result(label="a rather long name of a run")], tmp_path / "a.csv", columns())
    compare([tmp_path / "a.csv"])
    shown = capsys.readouterr().out
    assert "a rather long name of a run" in shown
    assert "million weights" in shown


def test_markdown_is_a_table():
    assert markdown(["x", "y"], [["1", "2"]]) == "| x | y |\n| --- | ---: |\n| 1 | 2 |"
