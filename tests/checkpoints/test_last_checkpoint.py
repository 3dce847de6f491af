"""A run that is stopped anywhere and resumed ends as one that nobody stopped."""

import os
import signal

import pytest
import torch

from tireid.checkpoints import stop_signals
from tireid.checkpoints.best_checkpoint import BestCheckpoint
from tireid.checkpoints.last_checkpoint import LastCheckpoint


def callbacks(folder, **arguments):
    last = LastCheckpoint(str(folder / "checkpoints"), **arguments)
    last.settings = "a hash"
    best = BestCheckpoint(
        dirpath=str(folder / "checkpoints"),
        filename="epoch{epoch}",
        auto_insert_metric_name=False,
        monitor="val/R1",
        mode="max",
    )
    return last, best


def outcome(model, folder):
    """Return all that a run leaves and that must not depend on where it was stopped."""
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    return weights, names, (folder / "metrics.csv").read_text()


def stop_in(model, hook, step):
    """Have a hook of the model receive SIGTERM at a step."""
    original = getattr(model, hook)

    def stopping(batch, batch_idx):
        if model.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(batch, batch_idx)

    setattr(model, hook, stopping)


@pytest.fixture
def whole(tiny, tiny_trainer, tmp_path):
    """Return the outcome of a run that nobody stops."""
    model = tiny()
    tiny_trainer(*callbacks(tmp_path / "whole"), folder=tmp_path / "whole").fit(model)
    return outcome(model, tmp_path / "whole")


@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [
        ("training_step", 0, 1),  # within the first step
        ("training_step", 5, 6),  # within an epoch
        ("training_step", 3, 4),  # at an epoch's end, before its validation
        ("validation_step", 4, 4),  # within a validation, which is done again
        ("training_step", 7, 8),  # within the last step
    ],
)
def test_a_stopped_run_resumes_to_the_same_end(
    tiny, tiny_trainer, tmp_path, whole, hook, step, saved
):
    folder = tmp_path / "run"
    model = tiny()
    stop_in(model, hook, step)
    with pytest.raises(stop_signals.Stopped, match="75") as stopped:
        tiny_trainer(*callbacks(folder), folder=folder).fit(model)
    file = folder / "checkpoints" / "last.ckpt"
    assert stopped.value.message.startswith(f"stopped by SIGTERM: step {saved} is in {file}; ")
    assert torch.load(file, weights_only=True)["global_step"] == saved
    stop_signals.reset()
    torch.manual_seed(99)  # what a new process draws does not matter
    model = tiny()
    trainer = tiny_trainer(*callbacks(folder), folder=folder)
    trainer.fit(model, ckpt_path=str(file), weights_only=True)
    assert outcome(model, folder) == whole


def test_the_file_before_stays_until_training_has_ended(tiny, tiny_trainer, tmp_path):
    model = tiny()
    stop_in(model, "training_step", 5)
    with pytest.raises(stop_signals.Stopped):
        tiny_trainer(*callbacks(tmp_path, every_n_train_steps=1)).fit(model)
    steps = {
        name: torch.load(tmp_path / "checkpoints" / name, weights_only=True)["global_step"]
        for name in ("last.ckpt", "last_previous.ckpt")
    }
    assert steps == {"last.ckpt": 6, "last_previous.ckpt": 5}
    # Resumed from the file before because the last one is damaged: that one replaces nothing.
    stop_signals.reset()
    damaged, good = (tmp_path / "checkpoints" / name for name in steps)
    damaged.write_bytes(b"damaged")
    model = tiny()
    stop_in(model, "training_step", 6)
    last, best = callbacks(tmp_path)
    with pytest.raises(stop_signals.Stopped):
        tiny_trainer(last, best).fit(model, ckpt_path=str(good), weights_only=True)
    assert torch.load(damaged, weights_only=True)["global_step"] == 7
    assert torch.load(good, weights_only=True)["global_step"] == 5
    last.clear()
    assert not damaged.exists()
    assert not good.exists()
    assert last.best_model_path == ""


def test_it_is_written_by_steps_after_epochs_and_at_the_end(tiny, tiny_trainer, tmp_path):
    last, best = callbacks(tmp_path, minutes=None, every_n_train_steps=3)
    trainer, saved = tiny_trainer(last, best), []
    original = trainer.save_checkpoint

    def watched(path, *arguments, **options):
        original(path, *arguments, **options)
        if path == last.path:
            epoch = torch.load(path, weights_only=True)["epoch"]
            best_files = len(list(tmp_path.glob("checkpoints/epoch*")))
            saved.append((trainer.global_step, epoch, best_files))

    trainer.save_checkpoint = watched
    trainer.fit(tiny())
    # The second epoch is better; until then last.ckpt may name the file of the first.
    assert saved == [(3, 0, 0), (4, 0, 1), (6, 1, 1), (8, 1, 2)]
    assert len(list(tmp_path.glob("checkpoints/epoch*"))) == 1


def test_it_is_not_written_within_an_accumulated_batch(tiny, tiny_trainer, tmp_path):
    models = {}
    for name in ("whole", "stopped"):
        folder, models[name] = tmp_path / name, tiny()
        options = {"folder": folder, "accumulate_grad_batches": 2}
        if name == "stopped":
            stop_in(models[name], "training_step", 1)  # in the first half of the second step
            with pytest.raises(stop_signals.Stopped, match="75"):
                tiny_trainer(*callbacks(folder), **options).fit(models[name])
            stop_signals.reset()
            models[name] = tiny()
        trainer = tiny_trainer(*callbacks(folder), **options)
        last = folder / "checkpoints" / "last.ckpt"
        path = str(last) if last.exists() else None
        trainer.fit(models[name], ckpt_path=path, weights_only=True)
    assert outcome(models["stopped"], tmp_path / "stopped") == outcome(
        models["whole"], tmp_path / "whole"
    )


def test_a_checkpoint_holds_the_hash_of_its_config(tiny, tiny_trainer, tmp_path):
    last, best = callbacks(tmp_path)
    tiny_trainer(last, best, max_epochs=1).fit(tiny())
    content = torch.load(last.best_model_path, weights_only=True)
    assert content["tireid"]["settings"] == "a hash"
    assert content["tireid"]["method"] == "Tiny"


def test_outside_training_a_signal_ends_the_process_at_once(tiny, tiny_trainer, tmp_path):
    stop_signals.listen()  # as the entry point does
    tiny_trainer(*callbacks(tmp_path), max_epochs=1).fit(tiny())
    with pytest.raises(stop_signals.Stopped, match="75"):
        os.kill(os.getpid(), signal.SIGTERM)
