import socket
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


@pytest.fixture
def unchecked() -> Iterator[None]:
    """What users see: without the shape checks of the test run, our own errors speak."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _worker(rank: int, port: int, function: Callable[..., Any], args: tuple[Any, ...], queue: Any):
    torch.set_num_threads(1)
    store = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    result = function(rank, *args)
    queue.put((rank, result))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture
def on_two_ranks() -> Callable[..., list[Any]]:
    """Run `function(rank, *args)` in two gloo processes; what both return, by rank.

    Results must be NumPy arrays or plain numbers, which outlive the process that sends them.
    """

    def run(function: Callable[..., Any], *args: Any) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        queue = mp.get_context("spawn").SimpleQueue()
        mp.spawn(_worker, args=(port, function, args, queue), nprocs=2)
        return [value for _, value in sorted((queue.get() for _ in range(2)), key=lambda r: r[0])]

    return run
