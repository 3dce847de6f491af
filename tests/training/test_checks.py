"""Settings that would be ignored, or leave no result, are refused before anything is built."""

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from tireid.checkpoints.last_checkpoint import LastCheckpoint
from tireid.training.checks import check_scalars, check_selection
from tireid.training.run import train

BASELINE = ["model=baseline", "max_epochs=1"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.devices=2", r"trainer\.devices: .*got 2; set strategy=ddp.*strategy\.devices=N"),
        ("+trainer.strategy=ddp", r"trainer\.strategy: .*strategy=ddp_cpu"),
        ("+trainer.num_nodes=2", "strategy=torchrun"),
        ("+trainer.sync_batchnorm=true", r"strategy\.sync_batch_norm"),
        ("+trainer.logger=false", "choose logger=csv"),
        ("+trainer.callbacks=[]", r"callbacks\.NAME"),
        ("+trainer.plugins=[]", "strategy="),
        ("trainer.use_distributed_sampler=true", "samplers share the data"),
        ("+trainer.enable_progress_bar=false", "~callbacks.progress"),
        ("+trainer.enable_checkpointing=false", "~callbacks.checkpoint"),
        ("+trainer.fast_dev_run=true", "debug=fast"),
        ("+trainer.fast_dev_run=3", "debug=fast"),
        ("+trainer.overfit_batches=1", "debug=fast"),
        ("+trainer.barebones=true", "debug=fast"),
        ("+trainer.limit_test_batches=1", r"trainer\.limit_test_batches: .*part .* no result"),
        ("+trainer.limit_test_batches=0.5", "no result"),
        ("trainer.precision=16-mixed", r"trainer\.precision: .*on a CPU, got 16-mixed.* GPU"),
        ("layer_decay=0", r"layer_decay: expected a number in \(0, 1\], got 0"),
        ("frozen_blocks=-1", "frozen_blocks: expected an integer >= 0, got -1"),
        ("lora_rank=2.5", "lora_rank: expected an integer >= 0, got 2.5"),
        ("checkpoint_activations=1", "checkpoint_activations: expected true or false, got 1"),
        ("micro_batch=64", "micro_batch: expected an integer from 1 to below batch_size=8, or 0"),
        ("average_decay=1", r"average_decay: expected a number in \[0, 1\), got 1"),
        ("+trainer.limit_test_batches=0", "no result"),
        ("+trainer.limit_val_batches=1", r"trainer\.limit_val_batches: .*no result"),
        ("+trainer.limit_val_batches=0", "with selection=last also 0, no validation"),
        ("+trainer.limit_train_batches=0", "a number > 0, got 0"),
        ("trainer.num_sanity_val_steps=a", "num_sanity_val_steps: expected a whole number"),
        (
            "trainer.gradient_clip_val=[1]",
            r"gradient_clip_val: expected a number or null, got \[1\]",
        ),
        ("vocabulary=1", "vocabulary: expected the path of a run, .* or null, got 1"),
        ("init_weights=[a]", "init_weights: expected the path of a run"),
        ("callbacks.curves.validation_split=test", r"callbacks\.curves\.validation_split: .*val"),
        ("strategy.num_nodes='1'", r"strategy\.num_nodes: expected a whole number, got '1'"),
    ],
)
def test_a_setting_of_the_trainer_that_would_be_ignored_or_end_without_result_is_refused(
    small_config, tmp_path, override, message
):
    with pytest.raises(ValueError, match=message):
        train(small_config(tmp_path, *BASELINE, override))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "override",
    ["+trainer.check_val_every_n_epoch=2", "+trainer.max_steps=1", "~callbacks.checkpoint"],
)
def test_a_training_without_the_validation_that_selects_is_refused_before_it_begins(
    small_config, tmp_path, override
):
    with pytest.raises(ValueError, match=r"selection=val: expected .* got none.*selection=last"):
        train(small_config(tmp_path, *BASELINE, override))
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    ("settings", "batches", "validated"),
    [
        ({"max_epochs": 1}, 4, True),
        ({"max_epochs": 3, "check_val_every_n_epoch": 3}, 4, True),
        ({"max_epochs": 3, "check_val_every_n_epoch": 4}, 4, False),
        ({"max_epochs": 1, "max_steps": 4}, 4, True),
        ({"max_epochs": 1, "max_steps": 3}, 4, False),
        ({"max_epochs": 1, "max_steps": 2, "val_check_interval": 0.5}, 4, True),
        ({"max_epochs": 1, "max_steps": 2, "accumulate_grad_batches": 2}, 4, True),
        ({"max_epochs": 1, "max_steps": 2, "limit_train_batches": 2}, 4, True),
        ({"max_epochs": 2, "val_check_interval": 9, "check_val_every_n_epoch": None}, 4, False),
        ({"max_epochs": 3, "val_check_interval": 9, "check_val_every_n_epoch": None}, 4, True),
        ({"max_epochs": -1, "check_val_every_n_epoch": 100}, 4, True),
    ],
)
def test_the_first_validation_is_foreseen(tmp_path, settings, batches, validated):
    callbacks = [ModelCheckpoint(), LastCheckpoint(str(tmp_path))]
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=callbacks, **settings)
    check_selection("last", trainer, batches)
    if validated:
        check_selection("val", trainer, batches)
    else:
        with pytest.raises(ValueError, match="selection=last, validate more often"):
            check_selection("val", trainer, batches)


def test_tensorboard_that_is_not_here_is_one_line(compose_config, tmp_path, monkeypatch):
    cfg = compose_config("logger=tensorboard", f"paths.output_dir={tmp_path}")
    monkeypatch.setattr("tireid.training.checks.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"logger: expected TensorBoard .* '\.\[tensorboard\]'"):
        check_scalars(cfg)


@pytest.mark.parametrize(
    ("override", "end"),
    [("selection=lst", "set selection=last"), ("cache_words=ture", "set cache_words=true"),
     ("batch_size=0", r"set batch_size=\.\.\."),
     ("callbacks.checkpoint.monitor=val/R20", "set callbacks.checkpoint.monitor=val/R10")],
)  # fmt: skip
def test_a_wrong_value_is_answered_with_the_nearest(compose_config, tmp_path, override, end):
    cfg = compose_config(override, f"paths.output_dir={tmp_path}")
    with pytest.raises(ValueError, match=f"{end}$"):
        check_scalars(cfg)
