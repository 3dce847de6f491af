"""The log of a resumed run has each row once."""

from unittest.mock import create_autospec

import lightning as L

from tireid.checkpoints.run_state import logged_rows, restore_rows


def log(trainer, step, **values):
    trainer.logger.log_metrics({"loss": 0.5 * step} | values, step)


def test_rows_go_on_where_the_checkpoint_was(tiny_trainer, tmp_path):
    first = tiny_trainer(folder=tmp_path / "run")
    log(first, 1)
    log(first, 2, rate=0.1)
    saved = logged_rows(first)
    assert saved is not None
    log(first, 3)  # after the checkpoint; the resumed run does this step again
    first.logger.save()
    second = tiny_trainer(folder=tmp_path / "other")
    restore_rows(second, saved)
    log(second, 3)
    second.logger.save()
    rows = (tmp_path / "other" / "metrics.csv").read_text().split()
    assert rows == (tmp_path / "run" / "metrics.csv").read_text().split()
    assert rows == ["loss,rate,step", "0.5,,1", "1.0,0.1,2", "1.5,,3"]


def test_nothing_logged_is_nothing_to_restore(tiny_trainer, tmp_path):
    trainer = tiny_trainer(folder=tmp_path / "run")
    assert logged_rows(trainer) is None
    restore_rows(trainer, None)
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_only_rank_zero_has_a_log():
    trainer = create_autospec(L.Trainer, instance=True, is_global_zero=False)
    assert logged_rows(trainer) is None
    restore_rows(trainer, "step\n1\n")


def test_a_run_without_a_csv_logger_has_no_rows():
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert logged_rows(trainer) is None
    restore_rows(trainer, "step\n1\n")
