"""A line per epoch, lines by the minute in a file, and a bar on terminals only."""

import io
import re

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch.utils.data import DataLoader

from tireid.callbacks.pace import Pace, checkpoint_size
from tireid.callbacks.progress import (
    EpochLines,
    ProgressLines,
    QuietProgressBar,
    RunBar,
    make_progress_bar,
)


def test_a_file_gets_no_bar():
    assert isinstance(make_progress_bar(), QuietProgressBar)


def test_nothing_may_stand_where_a_bar_is_configured(compose_config):
    cfg = compose_config("callbacks.progress._target_=tireid.callbacks.progress.QuietProgressBar")
    assert type(instantiate(cfg.callbacks.progress)) is QuietProgressBar


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
    pattern = r"epoch   1/2   loss +(\d\.\d{3})   val R@1 12\.50   val mAP 20\.00 +\d+\.\d s"
    (loss,) = re.fullmatch(pattern, lines[0]).groups()
    # The weight is 1, then 0.8 by a rate of 0.1, then 0.72 by half of it.
    assert float(loss) == pytest.approx((1 + 0.8**2 + 0.72**2) / 3, abs=1e-3)


def test_metrics_that_were_not_logged_are_left_out(fit, capsys):
    fit(EpochLines())
    said = capsys.readouterr().out
    assert "loss" in said
    assert "R@1" not in said


def test_validation_on_the_test_split_is_named(fit, capsys):
    fit(Metrics("test"), EpochLines("test"))
    assert "test R@1 12.50" in capsys.readouterr().out


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


def stepped(pace, trainer, seconds):
    """Let a stand-in for a trainer take steps that end at these times."""
    for second in seconds:
        pace.now = second
        trainer.global_step += 1
        pace.step(trainer)


@pytest.fixture
def pace():
    class Timed(Pace):
        now = 0.0

    timed = Timed(clock=lambda: timed.now)
    return timed


def test_the_time_left_counts_steps_and_validations_to_come_without_the_first_step(
    pace, stub_trainer
):
    logged = {"train/loss": torch.tensor(2.5), "val/R1": torch.tensor(45.1)}
    trainer = stub_trainer(
        global_step=0, max_epochs=10, estimated_stepping_batches=100, callback_metrics=logged
    )
    pace.begin(trainer)
    stepped(pace, trainer, [60])  # memory is allocated
    assert pace.news(trainer).facts == {"loss": "2.500", "val R@1": "45.10"}
    stepped(pace, trainer, [62, 64])
    pace.validate()
    pace.now = 94
    pace.go_on()
    stepped(pace, trainer, [96, 98])
    step, epoch, facts = pace.news(trainer)
    assert (step, epoch) == ("5/100", "1/10")
    assert facts["rate"] == "0.50 steps/s"
    assert facts["left"] == f"{round((95 * 2 + 9.5 * 30) / 60)} min"


def test_a_part_of_a_batch_is_no_step_and_a_resumed_run_starts_where_it_is(pace, stub_trainer):
    trainer = stub_trainer(global_step=50, estimated_stepping_batches=100)
    pace.begin(trainer)
    pace.step(trainer)
    stepped(pace, trainer, [2, 4])
    assert (pace.timed, pace.news(trainer).step) == (1, "52/100")
    assert pace.news(trainer).facts["left"] == "2 min"


class Slow(Callback):
    """Makes each step take two seconds, for who asks the clock of progress."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for name in ("perf_counter", "monotonic"):
            monkeypatch.setattr(f"tireid.callbacks.progress.time.{name}", lambda: self.now)

    def on_train_batch_start(self, *_):
        self.now += 2.0


def test_three_minutes_in_a_file_are_four_lines(small_trainer, model, monkeypatch, capsys):
    bar = ProgressLines(minutes=1)
    slow = Slow(monkeypatch)
    bar.pace = Pace(clock=lambda: slow.now)
    trainer = small_trainer(slow, Metrics("val"), bar, enable_progress_bar=True)
    trainer.fit(model, DataLoader(torch.ones(55)))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split("   ")[0] for line in lines] == [
        f"step {step}/110" for step in (11, 41, 71, 101)
    ]
    pattern = r"step 71/110   epoch 2/2   loss \d\.\d{3}   rate 0\.50 steps/s   left 78 s"
    assert re.fullmatch(pattern + r"   val R@1 12\.50", lines[2])


def test_other_processes_print_no_lines(stub_trainer, model, capsys):
    bar = ProgressLines(minutes=0)
    trainer = stub_trainer(is_global_zero=False)
    for trainer.global_step in range(20):
        bar.on_train_batch_end(trainer, model, None, None, 0)
    assert bar.pace.timed > 10
    assert capsys.readouterr().out == ""


def test_a_bar_counts_epochs_from_one_and_shows_loss_rate_and_time_left(
    small_trainer, model, monkeypatch
):
    screen = io.StringIO()
    monkeypatch.setattr("tireid.callbacks.progress._SHOWN_FOR", 0.0)
    bar = RunBar()
    bar._console_kwargs = {"file": screen, "force_terminal": True, "width": 200}
    data = DataLoader(torch.ones(12), batch_size=2)
    small_trainer(bar, Metrics("val"), enable_progress_bar=True).fit(model, data)
    said = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue())
    assert "Epoch 2/2" in said
    assert "Epoch 0/" not in said
    assert re.search(r"6/6 loss: 0\.\d+   rate: [\d.]+ steps/s   left: 0 s   val R@1: 12\.50", said)


def test_what_is_ahead_is_said_at_the_start(fit, tmp_path, capsys):
    trainer = fit(EpochLines())
    assert "6 steps in 2 epochs; a checkpoint takes about 0.0 MB" in capsys.readouterr().out
    model = torch.nn.Linear(100, 1000)
    optimizer = torch.optim.AdamW(model.parameters())
    trainer.strategy.optimizers = [optimizer]
    expected = checkpoint_size(trainer, model)
    model(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "x.ckpt")
    assert expected == pytest.approx((tmp_path / "x.ckpt").stat().st_size, rel=0.02)
