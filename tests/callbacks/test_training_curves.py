"""The curves of a run, from its CSV log."""

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tireid.callbacks.training_curves import TrainingCurves, draw_curves

LOG = "step,epoch,train/loss,train/loss_id,val/R1,val/mINP,val/i2t_R1\n"
LOG += "0,0,4.0,1.0,,,\n4,0,2.0,0.5,50.0,40.0,30.0\n"


@pytest.fixture
def drawn(monkeypatch):
    """What is plotted, by label."""
    lines = {}
    plot = Axes.plot

    def watched(axes, x, y, **options):
        lines[options["label"]] = (list(x), list(y))
        return plot(axes, x, y, **options)

    monkeypatch.setattr(Axes, "plot", watched)
    return lines


def test_losses_and_the_metrics_of_the_table_are_drawn_over_steps(
    stub_trainer, model, drawn, tmp_path
):
    (tmp_path / "metrics.csv").write_text(LOG)
    TrainingCurves(str(tmp_path)).on_fit_end(stub_trainer(), model)
    assert drawn == {
        "sum": ([0, 4], [4.0, 2.0]),
        "identity": ([0, 4], [1.0, 0.5]),
        "R@1": ([4], [50.0]),
    }
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 100


def test_legends_stand_outside_and_ticks_are_numbers(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    terms = {f"train/loss_{name}": [(0, 9.0), (9, 0.04)] for name in ("id", "distil_features")}
    draw_curves(terms | {"val/R1": [(1, 10.0)]}, tmp_path / "curves.png")
    figures[0].draw_without_rendering()
    losses, metrics = figures[0].axes
    for axes in (losses, metrics):
        legend = axes.get_legend().get_window_extent()
        assert legend.x0 >= axes.get_window_extent().x1
    texts = [text.get_text() for text in losses.get_legend().get_texts()]
    assert texts == ["distilled features", "identity"]
    ticks = [text.get_text() for text in losses.get_yticklabels()]
    assert {"0.05", "0.1", "0.2", "1", "5"} <= set(ticks)


def test_a_loss_below_zero_is_drawn_too(tmp_path):
    draw_curves({"train/loss": [(0, 1.0), (1, -0.2)]}, tmp_path / "curves.png")


def test_of_the_test_split_only_its_metrics_are_drawn(drawn, tmp_path):
    columns = {"val/R1": [(1, 10.0)], "test/mAP": [(1, 20.0)]}
    draw_curves(columns, tmp_path / "curves.png", "test")
    assert list(drawn) == ["mAP"]


def test_without_a_log_or_on_another_process_nothing_is_drawn(stub_trainer, model, tmp_path):
    curves = TrainingCurves(str(tmp_path))
    curves.on_fit_end(stub_trainer(), model)
    (tmp_path / "metrics.csv").write_text(LOG)
    curves.on_fit_end(stub_trainer(is_global_zero=False), model)
    assert not (tmp_path / "curves.png").exists()


def test_loggers_write_what_they_hold_before_it_is_drawn(stub_trainer, model, tmp_path, drawn):
    class Logger:
        def save(self):
            (tmp_path / "metrics.csv").write_text(LOG)

    TrainingCurves(str(tmp_path)).on_fit_end(stub_trainer(loggers=[Logger()]), model)
    assert "R@1" in drawn
