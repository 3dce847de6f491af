"""What the machine is short of is told in one message that says what to set."""

import errno
import os
import resource

import pytest
import torch
from hydra.errors import InstantiationException
from torch.utils.data import DataLoader, Dataset

from tests.forked import Command
from tireid.training.errors import clear_message
from tireid.training.shortage import shortage


def no_room():
    return OSError(errno.ENOSPC, "runs/a/last.ckpt: could not be written (0 MiB free)")


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), ["batch_size", "eval_batch_size", "bf16"]),
        (MemoryError(), ["out of memory", "batch_size"]),
        (RuntimeError("could not create a primitive"), ["out of memory", "primitive"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte"), ["out of memory"]),
        (RuntimeError("can't start new thread"), ["out of memory"]),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ["out of memory"]),
        (OSError(errno.EMFILE, "Too many open files"), ["ulimit -n 4096", "num_workers=0"]),
        (RuntimeError("received 0 items of ancdata"), ["ulimit -n"]),
        (RuntimeError("DataLoader worker (pid 7) exited unexpectedly"), ["num_workers=0"]),
        (RuntimeError("DataLoader timed out after 600 seconds"), ["num_workers=0"]),
        (no_room(), ["last.ckpt", "make room", "same command", "hydra.run.dir="]),
        (OSError(errno.EROFS, "Read-only file system", "runs"), ["runs", "hydra.run.dir="]),
    ],
)
def test_a_shortage_is_named_with_what_to_set(error, parts):
    message = clear_message(error)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_shortage_that_a_library_wraps_is_found_and_another_error_is_left_alone():
    wrapped = InstantiationException("Error in call to target")
    wrapped.__cause__ = MemoryError()
    assert "out of memory" in shortage(wrapped)
    renamed = RuntimeError("failed")
    renamed.__context__ = MemoryError()
    assert "out of memory" in shortage(renamed)
    renamed.__suppress_context__ = True
    assert shortage(renamed) is None
    assert shortage(ValueError("out of memory is no machine's word here")) is None
    assert clear_message(RuntimeError("a fault of ours")) is None


class Lost(Dataset):
    """Items that are lost as a process sends them."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, _):
        raise self.error


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), EOFError()])
def test_a_batch_that_is_lost_on_its_way_is_a_loading_process_that_ended(error):
    assert shortage(error) is None  # a connection of somebody else
    with pytest.raises(type(error)) as caught:
        next(iter(DataLoader(Lost(error), sampler=[0])))
    assert "ulimit -n" in clear_message(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "value", "words", "said"),
    [
        ("RLIMIT_NOFILE", 32, ["dataset.cache_images=false", "dataset.num_workers=2"], "ulimit -n"),
        ("RLIMIT_AS", 4_500_000 << 10, ["dataset.image_size=[2048,1024]"], "out of memory"),
    ],
)
def test_a_training_under_a_limit_ends_with_one_message(
    tmp_path, cache_dir, limit, value, words, said
):
    command = [
        *("tireid", "train", "model=baseline", "logger=csv", "trainer=cpu"),
        *("max_epochs=1", "batch_size=32", f"paths.cache_dir={cache_dir}"),
        *("dataset.read.num_train_ids=16", "dataset.read.num_val_ids=3"),
        *("dataset.read.num_test_ids=4", "dataset.read.images_per_id=2"),
        *("dataset.image_size=[48,16]", f"hydra.run.dir={tmp_path / 'run'}", *words),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    limits = {getattr(resource, limit): value}
    done = Command(command, tmp_path, environment, limits).finish(300)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
