"""Spread the drawing over processes.

The workers are programs of their own, started from this one's interpreter, not forks or
`multiprocessing` children: that works under threads, in notebooks and in scripts without a
`__main__` guard, and they end by themselves when their parent is gone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tireid.world.identities import Identity
from tireid.world.pictures import write_pictures
from tireid.world.settings import WorldSettings

# Below this, starting an interpreter takes longer than drawing.
_MIN_IMAGES_PER_WORKER = 24
Rows = list[dict[str, Any]]


def make_rows(
    folder: Path,
    settings: WorldSettings,
    population: list[Identity],
    num_workers: int,
    on_progress: Callable[[int], Any],
) -> Rows:
    """Write all images and return the ground truth, one row an image, in fixed order.

    Args:
        folder: Root of the world.
        settings: Settings of the world.
        population: The identities of the world.
        num_workers: Processes to use at most; few images are drawn in this one.
        on_progress: Called with the number of images done since its last call.

    Raises:
        OSError: If a file cannot be written.
        RuntimeError: If a worker ends without a reason given; holds what it said.
    """
    num_images = len(population) * settings.images_per_id
    num_workers = min(num_workers, num_images // _MIN_IMAGES_PER_WORKER)
    if num_workers < 1 or not sys.executable:
        rows: Rows = []
        for done in write_pictures(folder, settings, population):
            rows += done
            on_progress(len(done))
        return rows
    by_ordinal = _from_workers(folder, settings, num_workers, on_progress)
    return [row for identity in population for row in by_ordinal[identity.ordinal]]


def _from_workers(
    folder: Path, settings: WorldSettings, num_workers: int, on_progress: Callable[[int], Any]
) -> dict[int, Rows]:
    by_ordinal: dict[int, Rows] = {}
    with ExitStack() as stack:
        # Left last, when the workers are dead and no thread waits for one.
        pool = stack.enter_context(ThreadPoolExecutor(num_workers))
        workers = [
            stack.enter_context(_start(folder, settings, number, num_workers))
            for number in range(num_workers)
        ]
        for share in as_completed([pool.submit(_read, w, on_progress) for w in workers]):
            by_ordinal |= share.result()
    return by_ordinal


@contextmanager
def _start(
    folder: Path, settings: WorldSettings, number: int, num_workers: int
) -> "Iterator[subprocess.Popen[str]]":
    """Start a worker, and end it with the block."""
    job = {
        "settings": settings.to_dict(),
        "folder": str(folder),
        "worker": number,
        "num_workers": num_workers,
    }
    # The same modules as here, wherever they were found; one thread, there is a process a core.
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tireid.world.pictures"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    ) as worker:
        try:
            if worker.stdin is not None:
                worker.stdin.write(json.dumps(job) + "\n")
                worker.stdin.close()
            yield worker
        finally:
            worker.kill()


def _read(worker: "subprocess.Popen[str]", on_progress: Callable[[int], Any]) -> dict[int, Rows]:
    """Return the rows that a worker prints, by the ordinals of their identities."""
    by_ordinal: dict[int, Rows] = {}
    for line in worker.stdout or ():
        if not line.endswith("\n"):  # left by a worker that was killed; its exit status tells
            break
        message = json.loads(line)
        if "error" in message:
            raise OSError(message["errno"], message["error"])
        by_ordinal[message["ordinal"]] = message["rows"]
        on_progress(len(message["rows"]))
    said = worker.stderr.read() if worker.stderr is not None else ""
    if worker.wait() != 0:
        raise RuntimeError(
            f"a worker that draws images ended with status {worker.returncode}; expected 0. "
            f"It said: {said.strip() or 'nothing'}. With num_workers=1 all is done in one process"
        )
    return by_ordinal
