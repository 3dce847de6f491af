"""Loading processes and the shared memory that their batches pass through."""

import shutil
import warnings
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, Dataset

from tireid.data import shared_memory
from tireid.data.resumable_loader import prepare_worker
from tireid.data.shared_memory import workers_that_fit

MIB = 2**20
BATCH = 48 * 3 * 384 * 128 * 4  # 27 MiB


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets how many bytes of shared memory are free."""

    def use(size):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))

    return use


def test_a_small_shared_memory_gets_fewer_workers_and_a_warning_that_says_what_to_do(free):
    free(64 * MIB)
    with pytest.warns(UserWarning, match="docker run --shm-size=1g") as warned:
        assert workers_that_fit(2, BATCH, 1, "batch_size") == 0
    message = str(warned[0].message)
    for part in (
        "num_workers=2 with batches of 27.0 MiB needs 324.0 MiB of shared memory, got 64.0 MiB",
        "dataset.num_workers=0",
        "a smaller batch_size",
    ):
        assert part in message


def test_memory_for_some_workers_gets_some(free):
    free(2 * BATCH * (2 + 2 * 3))
    with pytest.warns(UserWarning, match="3 workers load instead"):
        assert workers_that_fit(8, BATCH, 1, "batch_size") == 3


def test_the_processes_of_a_machine_share_the_memory(free):
    free(2 * BATCH * (2 + 2 * 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert workers_that_fit(4, BATCH, 1, "batch_size") == 4
    with pytest.warns(UserWarning, match="1 workers"):
        assert workers_that_fit(4, BATCH, 2, "batch_size") == 1


def test_without_shared_memory_nothing_is_loaded_by_others(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "PLACE", tmp_path / "none")
    with pytest.warns(UserWarning, match="got 0.0 MiB"):
        assert workers_that_fit(2, BATCH, 1, "batch_size") == 0
    assert workers_that_fit(0, BATCH, 1, "batch_size") == 0


class Unsendable(Dataset):
    """Items that no other process can get."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return lambda: index


def test_a_worker_that_cannot_pass_on_a_batch_ends_the_loading_in_seconds(capfd):
    loader = DataLoader(
        Unsendable(),
        num_workers=1,
        collate_fn=list,
        worker_init_fn=prepare_worker,
        multiprocessing_context="fork",
        timeout=20,
    )
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(iter(loader))
    assert "could not pass on a batch" in capfd.readouterr().err


def test_a_lost_batch_is_not_waited_for_for_ever(make_pairs):
    """Both loaders with workers have a limit; one without may have none."""
    for workers, limited in ((0, False), (2, True)):
        train, images = make_pairs(workers)
        assert (train.timeout > 0) is (images.timeout > 0) is limited


@pytest.fixture
def make_pairs(small_config, tmp_path):
    """Return a function from a number of workers to the loaders of pairs and of images."""
    from tireid.inference.build import build_datamodule

    def make(workers):
        cfg = small_config(tmp_path, "dataset.cache_images=false", f"dataset.num_workers={workers}")
        datamodule = build_datamodule(cfg)
        datamodule.prepare_data()
        datamodule.setup("fit")
        return datamodule.train_dataloader(), datamodule.val_dataloader()[1]

    return make
