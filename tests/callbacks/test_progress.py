"""A line per epoch, and a bar on terminals only."""

import re

import pytest
from lightning.pytorch.callbacks import Callback, RichProgressBar

from tireid.callbacks.progress import EpochLines, QuietProgressBar, make_progress_bar


def test_a_file_gets_no_bar():
    assert isinstance(make_progress_bar(), QuietProgressBar)


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    bar = make_progress_bar(refresh_rate=7)
    assert isinstance(bar, RichProgressBar)
    assert bar.refresh_rate == 7


class Metrics(Callback):
    """Logs metrics, as a validation does."""

    def __init__(self, split):
        self.split = split

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        pl_module.log_dict({f"{self.split}/R1": 12.5, f"{self.split}/mAP": 20.0})


def test_a_line_per_epoch_has_the_mean_loss_and_the_headline_metrics(fit, capsys):
    fit(Metrics("val"), EpochLines())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split("   ")[1].strip() for line in lines] == ["1/2", "2/2"]
    pattern = r"epoch   1/2   loss +(\d\.\d{3})   val R1 12\.50   val mAP 20\.00 +\d+\.\d s"
    (loss,) = re.fullmatch(pattern, lines[0]).groups()
    # The weight is 1, then 0.8 by a rate of 0.1, then 0.72 by half of it.
    assert float(loss) == pytest.approx((1 + 0.8**2 + 0.72**2) / 3, abs=1e-3)


def test_metrics_that_were_not_logged_are_left_out(fit, capsys):
    fit(EpochLines())
    said = capsys.readouterr().out
    assert "loss" in said
    assert "R1" not in said


def test_validation_on_the_test_split_is_named(fit, capsys):
    fit(Metrics("test"), EpochLines("test"))
    assert "test R1 12.50" in capsys.readouterr().out


@pytest.mark.parametrize("begin", ["on_train_start", "on_train_epoch_start"])
def test_the_clock_starts_with_the_epoch_or_where_a_resumed_run_continues(
    begin, stub_trainer, model, capsys
):
    lines = EpochLines()
    getattr(lines, begin)(stub_trainer(), model)
    trainer = stub_trainer(max_epochs=2)
    trainer.strategy.reduce = lambda loss, reduce_op: loss
    lines.on_train_epoch_end(trainer, model)
    assert capsys.readouterr().out.strip().endswith("0.0 s")


def test_other_processes_print_nothing(stub_trainer, model, capsys):
    trainer = stub_trainer(is_global_zero=False)
    trainer.strategy.reduce = lambda loss, reduce_op: loss
    EpochLines().on_train_epoch_end(trainer, model)
    assert capsys.readouterr().out == ""
