"""Results are read from run folders and from CSV files."""

import json
import os
import subprocess
import sys

import pytest

from tireid.cli.compare import compare
from tireid.comparison.table import columns, table
from tireid.runs.folder import claim, finished_metrics
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


def test_csv_round_trip(tmp_path):
    results = [result(seed=s, r1=s / 3) for s in range(3)]
    write_csv(results, tmp_path / "a.csv", columns())
    again = read_csv(tmp_path / "a.csv")
    assert table(again) == table(results)
    assert [r.seed for r in again] == [0, 1, 2]
    (tmp_path / "a.csv").write_text("label,seed\nx,one\n")
    with pytest.raises(ValueError, match=r"a\.csv: expected a table"):
        read_csv(tmp_path / "a.csv")


def test_runs_are_read_from_their_folders(lgur_run, tmp_path, capsys):
    folder, metrics = lgur_run
    complete = read_runs(folder).complete
    assert not read_runs(folder).unfinished
    assert complete[0].label == "LGUR"
    assert complete[0].metrics["test/R1"] == metrics["test/R1"]
    target = tmp_path / "page.md"
    target.write_text("<!-- kept -->\n<!-- /kept -->\n")
    compare([folder], csv=tmp_path / "kept.csv", fill=target)
    shown = target.read_text()
    assert f"{metrics['test/R1']:.1f}" in shown
    compare([tmp_path / "kept.csv"], fill=target)
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


def _as_folder(file):
    file.unlink()
    file.mkdir()


def _linked(to):
    def damage(file):
        file.unlink()
        file.symlink_to(file if to is None else to)

    return damage


def _fifo(file):
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_text("{"), "expected a"),
        (_linked(None), "symbolic links"),
        (_linked("nowhere"), "no such file"),
        (_as_folder, "a folder"),
        (_fifo, "a pipe"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_the_others_are_compared(
    lgur_run, tmp_path, capsys, name, damage, said
):
    for run in ("broken", "whole"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        for file in ("config.yaml", "metrics.json"):
            (tmp_path / run / file).write_bytes((lgur_run[0] / file).read_bytes())
    damage(tmp_path / "broken" / name)
    compare([tmp_path])
    shown = " ".join(capsys.readouterr().out.split())
    assert "LGUR" in shown
    assert f"cannot be read: {tmp_path / 'broken'}" in shown
    assert said in shown
    with pytest.raises(ValueError, match="expected a complete run, got none"):
        compare([tmp_path / "broken"])


def test_a_run_without_its_config_is_named(lgur_run, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "metrics.json").write_bytes((lgur_run[0] / "metrics.json").read_bytes())
    (run,) = read_runs(tmp_path).unfinished
    assert run.state == "unreadable"
    assert "expected config.yaml in it" in run.reason


def test_a_complete_run_is_kept_and_another_is_not_overwritten(small_config, tmp_path, capsys):
    overrides = ["model=baseline", "max_epochs=1", "skip_finished=true"]
    first = train(small_config(tmp_path, *overrides))
    written = (tmp_path / "metrics.json").stat().st_mtime_ns
    assert train(small_config(tmp_path, *overrides)) == first
    assert (tmp_path / "metrics.json").stat().st_mtime_ns == written
    assert "complete already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="seed=1 instead of 2"):
        train(small_config(tmp_path, *overrides, "seed=2"))
    with claim(tmp_path) as free:
        assert free
        assert train(small_config(tmp_path, *overrides)) == {}
    assert "in use by another process" in capsys.readouterr().out


def test_a_run_that_was_stopped_is_not_complete(lgur_run, tmp_path):
    folder, _ = lgur_run
    assert finished_metrics(tmp_path, {}) is None
    (tmp_path / "config.yaml").write_bytes((folder / "config.yaml").read_bytes())
    (tmp_path / "metrics.json").write_text('{"finished": false}')
    assert finished_metrics(tmp_path, {}) is None


def test_reading_results_imports_neither_torch_nor_lightning():
    """A run folder is data: reading a thousand of them must not wait for a framework."""
    heavy = ["torch", "lightning", "hydra", "omegaconf", "wandb", "matplotlib"]
    code = f"""
import sys
import tireid.runs.results
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_failed_run_is_described_in_one_line(tmp_path):
    run = Unfinished("seed=1", "failed", tmp_path, "ValueError: a reason\nof two lines")
    assert str(run) == f"failed: seed=1: ValueError: a reason of two lines ({tmp_path})"
    assert str(Unfinished(str(tmp_path), "incomplete", tmp_path)) == f"not complete: {tmp_path}"
    assert str(Unfinished("seed=2", "missing")) == "not started: seed=2"


def test_folders_stand_in_the_order_of_their_results(lgur_run):
    folder, _ = lgur_run
    assert read_runs(folder).folders == [folder]
