"""Kill short trainings at random moments, continue them, and compare with unbroken ones.

    make endure ARGS="--trials 20"

Each trial starts a training as a process, kills its whole process group (kill -9) at a random
moment, and starts it again with the same command until it finishes; some are killed twice. Then
the metrics and the weights in all checkpoints must be those of a run that nothing stopped, bit for
bit. Exit code 1 if one differs.
"""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

METHODS = ("baseline", "lgur", "lcr2s")
SETTINGS = [
    "logger=csv",
    "trainer=cpu",
    "trainer.log_every_n_steps=1",
    "max_epochs=3",
    "batch_size=8",
    "dataset.read.num_train_ids=12",
    "dataset.read.num_val_ids=4",
    "dataset.read.num_test_ids=6",
    "dataset.read.images_per_id=2",
    "dataset.image_size=[48,16]",
    "callbacks.last.every_n_train_steps=2",
]
CONTINUING = re.compile(r"continuing after (.*?), from (.*)")
POLL_SECONDS = 0.02


class Unbroken(NamedTuple):
    """A run that nothing stopped.

    Attributes:
        folder: Its run folder.
        seconds: From its first file to its last, in which it is called finished.
    """

    folder: Path
    seconds: float


def start(method: str, folder: Path, cache: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start a training in a process group of its own."""
    command = [sys.executable, "-m", "tireid", "train", f"model={method}", *SETTINGS]
    command += [f"paths.cache_dir={cache}", f"hydra.run.dir={folder}"]
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 -- fixed words and own folders
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def wait_for_begin(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait until a run has written its settings, or has ended."""
    while process.poll() is None and not (folder / "config.yaml").exists():
        time.sleep(POLL_SECONDS)


def run_unbroken(method: str, folder: Path, cache: Path) -> Unbroken:
    """Run a training to its end.

    Raises:
        RuntimeError: If it fails.
    """
    log = folder.with_suffix(".log")
    if start(method, folder, cache, log).wait() != 0:
        raise RuntimeError(f"{log}: expected a training that ends well, got this one")
    first, last = (folder / name for name in ("config.yaml", "metrics.json"))
    return Unbroken(folder, last.stat().st_mtime - first.stat().st_mtime)


def run_killed(
    method: str, folder: Path, cache: Path, delays: list[float]
) -> tuple[list[str], list[str]]:
    """Run a training that is killed once for each delay, and then to its end.

    Args:
        method: Name of a model.
        folder: The run folder.
        cache: The data's.
        delays: Seconds from the run's begin to each kill.

    Returns:
        Where it was each time it was killed, and where it continued.

    Raises:
        RuntimeError: If it fails by itself.
    """
    log, killed = folder.with_suffix(".log"), []
    for delay in delays:
        process = start(method, folder, cache, log)
        wait_for_begin(process, folder)
        try:
            process.wait(timeout=delay)
            break  # it was quicker than the unbroken one
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed.append(reached(folder))
    process = start(method, folder, cache, log)
    if process.wait() != 0:
        raise RuntimeError(f"{log}: expected a training that continues, got this one")
    places = CONTINUING.findall(log.read_text(encoding="utf-8"))
    return killed, [place for place, _ in places]


def reached(folder: Path) -> str:
    """Return the last step that a run has logged, and its stage."""
    record = folder / "metrics.json"
    if record.is_file() and json.loads(record.read_text(encoding="utf-8"))["finished"]:
        return "its end"
    for stage, log in (("", folder), ("teacher ", folder / "teacher")):
        file = log / "metrics.csv"
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as rows:
                steps = [int(r["step"]) + 1 for r in csv.DictReader(rows) if r.get("train/loss")]
            if steps:
                return f"{stage}step {max(steps)}"
    return "the beginning"


def differences(folder: Path, other: Path) -> list[str]:
    """Return what differs between two finished runs: metrics, files, weights; empty: nothing."""
    found = []
    ours, theirs = (
        json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in (folder, other)
    )
    found += [f"metrics.json: {n}" for n in ("metrics", "validations") if ours[n] != theirs[n]]
    files, expected = (
        {str(file.relative_to(run)): file for file in run.rglob("*.ckpt*")}
        for run in (folder, other)
    )
    found += sorted(files.keys() ^ expected.keys())
    for name in sorted(files.keys() & expected.keys()):
        found += [f"{name}: {key}" for key in _unequal(files[name], expected[name])]
    return found


def _unequal(file: Path, other: Path) -> list[str]:
    ours: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    theirs: dict[str, Any] = torch.load(other, map_location="cpu", weights_only=True)["state_dict"]
    shared = ours.keys() & theirs.keys()
    return sorted(ours.keys() ^ theirs.keys()) + sorted(
        key for key in shared if not torch.equal(ours[key], theirs[key])
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--folder", type=Path, help="keep the runs here; else they are removed")
    return parser.parse_args()


def main() -> int:
    """Run all trials; return the exit code."""
    arguments = parse_arguments()
    console = Console(highlight=False, soft_wrap=True)
    # The seed says when to kill; where that finds a run depends on what else the machine does.
    chance = random.Random(arguments.seed)  # noqa: S311 -- no secret
    place = arguments.folder or Path(tempfile.mkdtemp())
    place = place.resolve()
    place.mkdir(parents=True, exist_ok=True)
    unbroken: dict[str, Unbroken] = {}
    equal = 0
    for number in range(arguments.trials):
        method = arguments.methods[number % len(arguments.methods)]
        if method not in unbroken:
            unbroken[method] = run_unbroken(method, place / f"unbroken_{method}", place / "cache")
        folder = place / f"trial{number + 1:02d}_{method}"
        kills = chance.choice((1, 1, 2))
        delays = [chance.uniform(0, unbroken[method].seconds) for _ in range(kills)]
        killed, continued = run_killed(method, folder, place / "cache", delays)
        found = differences(folder, unbroken[method].folder)
        equal += not found
        console.print(
            f"{number + 1:>3}  {method:<9} killed after {', '.join(killed) or 'its end'}; "
            f"continued after {', '.join(continued) or 'nothing'}: "
            f"{'equal' if not found else f'DIFFERENT: {found[0]} and {len(found) - 1} more'}"
        )
    console.print(f"{equal} of {arguments.trials} equal")
    if arguments.folder is None:
        shutil.rmtree(place)
    return 0 if equal == arguments.trials else 1


if __name__ == "__main__":
    sys.exit(main())
