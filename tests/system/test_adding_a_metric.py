"""One line in `tireid.metrics.names` adds a metric to a run, its files and every comparison."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from tireid.cli.compare import compare
from tireid.comparison.table import table
from tireid.inference.export import export
from tireid.metrics import recall_at_k
from tireid.metrics.names import METRICS, Metric
from tireid.runs.results import read_csv
from tireid.training.evaluate import evaluate
from tireid.training.run import train

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def r20(monkeypatch):
    monkeypatch.setitem(METRICS, "R20", Metric("R20", "R@20", partial(recall_at_k, k=20)))


def test_without_its_line_a_metric_is_refused_as_monitor(small_config, tmp_path):
    with pytest.raises(ValueError, match=r"monitor: expected .* got 'val/R20'"):
        train(small_config(tmp_path, "monitor=val/R20"))


@pytest.mark.usefixtures("r20")
def test_a_run_computes_logs_selects_by_and_shows_it(
    small_config, compose_config, tmp_path, capsys, monkeypatch
):
    run, drawn = tmp_path / "run", []
    plot = Axes.plot

    def watched(*args, **options):
        drawn.append(options.get("label"))
        return plot(*args, **options)

    monkeypatch.setattr(Axes, "plot", watched)
    overrides = ["model=baseline", "max_epochs=1", "monitor=val/R20"]
    metrics = train(small_config(run, *overrides))
    assert {"val/R20", "val/i2t_R20", "test/R20", "test/i2t_R20", "test/R20_wm"} <= set(metrics)
    assert "R@20" in drawn  # curves.png
    shown = capsys.readouterr().out
    assert "R@20" in shown.split("test split, percent")[1]
    record = json.loads((run / "metrics.json").read_text())
    assert record["metrics"] == metrics
    with (run / "metrics.csv").open(newline="") as file:
        assert {"val/R20", "test/R20"} <= set(next(csv.reader(file)))
    (checkpoint,) = (run / "checkpoints").glob("epoch*.ckpt")
    assert record["tested_checkpoint"] == checkpoint.name

    again = evaluate(compose_config(f"run={run}", "accelerator=cpu", name="evaluate"))
    assert again["test/R20"] == metrics["test/R20"]

    exported = export(compose_config(f"run={run}", f"output={tmp_path / 'model'}", name="export"))
    card = (exported / "README.md").read_text().splitlines()
    assert "R20" in next(line for line in card if line.startswith("|") and "mINP" in line)

    report = tmp_path / "report"
    report.mkdir()
    compare([run], csv=tmp_path / "results.csv", out=report)
    assert "R@20" in capsys.readouterr().out
    (result,) = read_csv(tmp_path / "results.csv")
    assert result.metrics["test/R20"] == pytest.approx(metrics["test/R20"], abs=1e-4)
    for name in ("report.html", "report.md"):
        assert "R@20" in (report / name).read_text()


@pytest.mark.usefixtures("r20")
def test_the_dashboard_shows_it():
    pytest.importorskip("wandb_workspaces")
    from tireid.comparison.dashboard.report import Scope, build
    from tireid.comparison.dashboard.server import request_of

    report = build(Scope("me", "tireid", "cuhk_pedes"), [], [])
    assert '"test/R20"' in json.dumps(request_of(report))


def test_results_that_were_written_before_are_still_read(monkeypatch):
    files = sorted(RESULTS.glob("*.csv"))
    assert files
    before = [table(read_csv(file)) for file in files]
    monkeypatch.setitem(METRICS, "R20", Metric("R20", "R@20", partial(recall_at_k, k=20)))
    assert [table(read_csv(file)) for file in files] == before


def test_runs_that_were_recorded_before_are_still_compared(
    lgur_run, copied_run, tmp_path, monkeypatch
):
    config = copied_run / "config.yaml"
    config.write_text(config.read_text().replace("label: null", "label: other"))
    line = Metric("R20", "R@20", partial(recall_at_k, k=20), headline=True)
    monkeypatch.setitem(METRICS, "R20", line)
    (tmp_path / "report").mkdir()
    compare([lgur_run[0], copied_run], out=tmp_path / "report")
    report = (tmp_path / "report" / "report.md").read_text()
    assert "Differences from" in report
    assert "R@20" not in report
