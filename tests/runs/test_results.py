"""Tables of results, by hand-worked means, and the runs they are read from."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tireid.comparison.chart import draw_results
from tireid.comparison.compare import compare
from tireid.comparison.table import fill, markdown, table
from tireid.runs.folder import claimed, finished_metrics
from tireid.runs.results import Result, Unfinished, read_csv, read_runs, write_csv
from tireid.training.run import train


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


def test_csv_round_trip(tmp_path):
    results = [result(seed=s, r1=s / 3) for s in range(3)]
    write_csv(results, tmp_path / "a.csv")
    again = read_csv(tmp_path / "a.csv")
    assert table(again) == table(results)
    assert [r.seed for r in again] == [0, 1, 2]
    (tmp_path / "a.csv").write_text("label,seed\nx,one\n")
    with pytest.raises(ValueError, match=r"a\.csv: expected a table"):
        read_csv(tmp_path / "a.csv")


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
    write_csv([result(label="a rather long name of a run")], tmp_path / "a.csv")
    compare([tmp_path / "a.csv"])
    shown = capsys.readouterr().out
    assert "a rather long name of a run" in shown
    assert "million weights" in shown


def test_the_picture_has_a_dot_for_each_seed(tmp_path):
    """Told apart by position and shape: no text is needed, and no colour but the dots'."""
    results = [
        result(label=label, seed=s, r1=r) for label in "ab" for s, r in ((1, 40.0), (2, 60.0))
    ]
    results = [replace(r, metrics=r.metrics | {"test/mAP": 30.0 + r.seed}) for r in results]
    draw_results(results, tmp_path / "a.png", "1 more without a result")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (pixels[..., 2] > 140) & (pixels[..., 0] < 100)
    black = pixels.sum(axis=-1) < 60
    assert blue.sum() > 8 * 40  # four dots in each panel
    assert black.sum() > 500
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_markdown_is_a_table():
    assert markdown(["x", "y"], [["1", "2"]]) == "| x | y |\n| --- | ---: |\n| 1 | 2 |"


def test_runs_are_read_from_their_folders(lgur_run, tmp_path, capsys):
    folder, metrics = lgur_run
    complete = read_runs(folder).complete
    assert not read_runs(folder).unfinished
    assert complete[0].label == "Lgur"
    assert complete[0].metrics["test/R1"] == metrics["test/R1"]
    target = tmp_path / "page.md"
    target.write_text("<!-- kept -->\n<!-- /kept -->\n")
    compare([folder], csv=tmp_path / "kept.csv", into=target)
    shown = target.read_text()
    assert f"{metrics['test/R1']:.1f}" in shown
    compare([tmp_path / "kept.csv"], into=target)
    assert target.read_text() == shown
    with pytest.raises(FileNotFoundError, match="expected run folders"):
        read_runs(tmp_path)


def test_an_incomplete_run_is_named_and_left_out(lgur_run, tmp_path):
    folder, _ = lgur_run
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_bytes((folder / "config.yaml").read_bytes())
    record = json.loads((folder / "metrics.json").read_text()) | {"finished": False}
    (run / "metrics.json").write_text(json.dumps(record))
    runs = read_runs(tmp_path)
    assert not runs.complete
    assert runs.unfinished == [Unfinished(str(run), "incomplete", run)]
    with pytest.raises(ValueError, match="expected a complete run, got none"):
        compare([tmp_path])
    (run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=re.escape(str(run))):
        read_runs(tmp_path)


def test_a_complete_run_is_kept_and_another_is_not_overwritten(small_config, tmp_path, capsys):
    overrides = ["model=baseline", "max_epochs=1", "skip_finished=true"]
    first = train(small_config(tmp_path, *overrides))
    written = (tmp_path / "metrics.json").stat().st_mtime_ns
    assert train(small_config(tmp_path, *overrides)) == first
    assert (tmp_path / "metrics.json").stat().st_mtime_ns == written
    assert "complete already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="seed=1 instead of 2"):
        train(small_config(tmp_path, *overrides, "seed=2"))
    with claimed(tmp_path) as free:
        assert free
        assert train(small_config(tmp_path, *overrides)) == {}
    assert "another process is at it" in capsys.readouterr().out


def test_a_run_that_was_stopped_is_not_complete(lgur_run, tmp_path):
    folder, _ = lgur_run
    assert finished_metrics(tmp_path, {}) is None
    (tmp_path / "config.yaml").write_bytes((folder / "config.yaml").read_bytes())
    (tmp_path / "metrics.json").write_text('{"finished": false}')
    assert finished_metrics(tmp_path, {}) is None
