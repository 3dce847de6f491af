"""The record of a run: its metrics, its counts over a resume, and the file."""

import json
from types import SimpleNamespace
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from tireid.callbacks import run_record
from tireid.callbacks.run_record import RunRecord


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(run_record.time, "perf_counter", lambda: clock.now)
    return clock


class Run:
    """The hooks of a callback in the order of a run, with steps of a given length."""

    def __init__(self, record, clock, stub_trainer, model):
        self.record, self.clock, self.trainer, self.model = record, clock, stub_trainer, model

    def step(self, images, seconds):
        batch = SimpleNamespace(pid=torch.zeros(images))
        self.record.on_train_batch_start(self.trainer(), self.model, None, 0)
        self.clock.now += seconds
        self.record.on_train_batch_end(self.trainer(), self.model, None, batch, 0)

    def validate(self, epoch, seconds=0.0, **metrics):
        logged = {f"val/{name}": torch.tensor(value) for name, value in metrics.items()}
        logged["train/loss"] = torch.tensor(1.0)
        self.record.on_validation_start(self.trainer(), self.model)
        self.clock.now += seconds
        trainer = self.trainer(current_epoch=epoch, callback_metrics=logged)
        self.record.on_validation_end(trainer, self.model)

    def test(self, seconds=0.0, **attributes):
        attributes |= {"callback_metrics": {"test/R1": torch.tensor(5.0)}}
        attributes |= {"ckpt_path": "/a/epoch000.ckpt"}
        self.record.on_test_start(self.trainer(**attributes), self.model)
        self.clock.now += seconds
        self.record.on_test_epoch_end(self.trainer(**attributes), self.model)
        self.clock.now += 1.0  # in which images of results are drawn, which is no evaluation
        self.record.on_test_end(self.trainer(**attributes), self.model)

    def save(self):
        checkpoint = {}
        self.record.on_save_checkpoint(self.trainer(), self.model, checkpoint)
        return checkpoint

    def load(self, checkpoint, stage=TrainerFn.FITTING):
        trainer = self.trainer(state=SimpleNamespace(fn=stage))
        self.record.on_load_checkpoint(trainer, self.model, checkpoint)


@pytest.fixture
def made(clock, stub_trainer, model, tmp_path):
    """Return a function from settings to the run of a callback."""

    def run(selection="val", monitor="val/R1"):
        record = RunRecord(str(tmp_path), 3, selection, monitor)
        return Run(record, clock, stub_trainer, model)

    return run


def written(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("selection", "monitor", "chosen"),
    [("val", "val/R1", 30.0), ("val", "val/mAP", 10.0), ("last", "val/R1", 20.0)],
)
def test_metrics_are_those_of_the_chosen_epoch(made, selection, monitor, chosen):
    run = made(selection, monitor)
    for epoch, (r1, mean) in enumerate([(10.0, 3.0), (30.0, 2.0), (20.0, 1.0)]):
        run.validate(epoch, R1=r1, mAP=mean)
    run.test()
    assert run.record.metrics["val/R1"] == chosen
    assert run.record.metrics["test/R1"] == 5.0
    assert set(run.record.metrics) == {"val/R1", "val/mAP", "test/R1"}


def test_a_run_that_never_validated_has_the_metrics_of_its_test(made):
    run = made()
    run.test()
    assert run.record.metrics == {"test/R1": 5.0}


def test_the_file_says_what_was_measured_and_where_it_came_from(made, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    run = made()
    run.record.extra = {"teacher": {"R1": 90.0}}
    run.step(images=4, seconds=2.0)
    run.validate(0, R1=40.0)
    content = written(tmp_path)
    assert content["metrics"] == {"val/R1": 40.0}
    assert content["validations"] == [{"epoch": 1, "val/R1": 40.0}]
    assert (content["seed"], content["selection"], content["steps"]) == (3, "val", 7)
    assert content["images_per_second"] == 4.0  # two processes, 4 images each, in 2 s
    assert content["seconds"] == {"total": 2.0, "training": 2.0, "evaluation": 0.0}
    assert content["parameters"] == {"total": 2, "trained": 2}
    assert content["data_sha256"] == {"test": "f00"}
    assert len(content["config_sha256"]) == 64
    assert content["teacher"] == {"R1": 90.0}
    assert content["versions"]["torch"] == torch.__version__
    assert {"commit", "dirty", "device", "precision", "peak_memory_mib"} <= set(content)


def test_the_test_completes_the_file(made, tmp_path):
    run = made()
    run.validate(0, R1=40.0)
    assert (written(tmp_path)["finished"], written(tmp_path)["tested_checkpoint"]) == (False, "")
    run.test(seconds=3.0)
    content = written(tmp_path)
    assert (content["finished"], content["tested_checkpoint"]) == (True, "epoch000.ckpt")
    assert content["metrics"] == {"val/R1": 40.0, "test/R1": 5.0}
    assert content["seconds"] == {"total": 4.0, "training": 0.0, "evaluation": 3.0}


def test_the_wait_for_data_counts_as_training_and_validation_does_not(made, clock):
    run = made()
    run.step(images=4, seconds=1.0)
    clock.now += 2.0  # the loader is slow
    run.step(images=4, seconds=1.0)
    run.validate(0, seconds=10.0)
    run.step(images=4, seconds=1.0)
    effort = run.record.effort
    assert (effort.train_seconds, effort.evaluation_seconds, effort.images) == (5.0, 10.0, 24)


def test_the_speed_of_an_epoch_is_logged_without_the_epochs_before(made, stub_trainer):
    run = made()
    module = Mock(spec=L.LightningModule, device=torch.device("cpu"))
    for seconds in (1.0, 4.0):
        run.step(images=4, seconds=seconds)
        run.record.on_train_epoch_end(stub_trainer(), module)
        run.record.on_validation_start(stub_trainer(), module)
    logged = [call.args for call in module.log.call_args_list]
    assert [value for name, value in logged if name == "train/images_per_second"] == [8.0, 2.0]
    peaks = [value for name, value in logged if name == "train/peak_memory_mib"]
    assert len(peaks) == 2
    assert min(peaks) > 0


def test_a_resumed_run_counts_on(made, clock):
    run = made()
    run.step(images=4, seconds=2.0)
    run.validate(0, R1=40.0)
    checkpoint = run.save()
    clock.now = 5000.0
    resumed = made()
    resumed.load(checkpoint)
    resumed.step(images=4, seconds=1.0)
    resumed.validate(1, R1=50.0)
    assert resumed.record.seconds == 3.0
    assert (resumed.record.effort.train_seconds, resumed.record.effort.images) == (3.0, 16)
    assert [metrics["epoch"] for metrics in resumed.record.validations] == [1, 2]


def test_loading_the_tested_checkpoint_changes_nothing(made):
    run = made()
    run.validate(0, R1=40.0)
    checkpoint = run.save()
    checkpoint["run_record"]["validations"] = []
    run.load(checkpoint, TrainerFn.TESTING)
    assert len(run.record.validations) == 1


def test_a_checkpoint_without_a_record_changes_nothing(made):
    run = made()
    run.validate(0, R1=40.0)
    run.load({})
    assert len(run.record.validations) == 1


def test_other_processes_write_nothing(made, tmp_path):
    made().test(is_global_zero=False)
    assert not (tmp_path / "metrics.json").exists()
