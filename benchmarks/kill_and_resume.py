"""Kill short trainings and indexings at random moments, continue them, compare with unbroken ones.

    make endure ARGS="--trials 20"

Each trial starts a scenario as a process, kills its whole process group (kill -9) at a random
moment, and starts it again with the same command until it finishes; some are killed twice. Then
the metrics and the weights in all checkpoints, or the rows and vectors of an index, must be those
of a run that nothing stopped, bit for bit. Exit code 1 if one differs.
"""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

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
TWO = "strategy=ddp_cpu"
CONTINUING = re.compile(r"continuing after (.*?), from (.*)")
INDEX = "index.sqlite"
POLL_SECONDS = 0.02
ATTEMPTS = 5  # at a kill before the end


class Place(NamedTuple):
    """Folders of one training, or of one indexing.

    Attributes:
        folder: Run folder, or that of a sweep or an index.
        cache: Data.
        model: Run whose model indexes.
    """

    folder: Path
    cache: Path
    model: Path


Moment = Callable[[Place], bool]


def has_begun(place: Place) -> bool:
    """Whether a run of the place has written its settings."""
    return any(place.folder.rglob("config.yaml"))


def has_teacher(place: Place) -> bool:
    """Whether the first stage has ended."""
    return _is_finished(place.folder / "teacher" / "metrics.json")


def has_student(place: Place) -> bool:
    """Whether the second stage has logged a step."""
    return (place.folder / "metrics.csv").is_file()


def is_painting(place: Place) -> bool:
    """Whether the synthetic people are being drawn."""
    return any(place.cache.rglob("*.tmp-*"))


def has_rows(place: Place) -> bool:
    """Whether the file of an index has been made."""
    return (place.folder / INDEX).is_file()


def never(_: Place) -> bool:
    """Let the moments to kill last until the end."""
    return False


class Scenario(NamedTuple):
    """A training or an indexing, and the time in which it is killed.

    Attributes:
        words: Of a training's command line, beside `SETTINGS`; none: images are indexed.
        begins: When it may be killed.
        ends: When no longer.
        paints: Whether each trial draws its own people.
    """

    words: tuple[str, ...]
    begins: Moment = has_begun
    ends: Moment = never
    paints: bool = False


SCENARIOS = {
    "baseline": Scenario(("model=baseline",)),
    "lgur": Scenario(("model=lgur",)),
    "lcr2s": Scenario(("model=lcr2s",)),
    "lcr2s between its stages": Scenario(("model=lcr2s",), has_teacher, has_student),
    "lgur on 2 processes": Scenario(("model=lgur", TWO)),
    "lcr2s on 2 processes": Scenario(("model=lcr2s", TWO)),
    "lcr2s_lgur": Scenario(("model=lcr2s_lgur",)),
    "irra": Scenario(("model=irra",)),
    "irra on 2 processes": Scenario(("model=irra", TWO)),
    "rde": Scenario(("model=rde",)),
    "rde on 2 processes": Scenario(("model=rde", TWO)),
    "sweep": Scenario(("--multirun", "model=baseline,lgur")),
    "painting": Scenario(("model=baseline",), is_painting, lambda p: not is_painting(p), True),
    "indexing": Scenario((), has_rows),
}


def start(scenario: Scenario, place: Place) -> "subprocess.Popen[bytes]":
    """Start a training or an indexing in a process group of its own."""
    command = [sys.executable, "-m", "tireid"]
    if scenario.words:
        folder = "hydra.sweep.dir" if "--multirun" in scenario.words else "hydra.run.dir"
        command += ["train", *scenario.words, *SETTINGS]
        command += [f"paths.cache_dir={place.cache}", f"{folder}={place.folder}"]
    else:
        command += ["index", str(place.cache), "--out", str(place.folder), "--batch-size", "1"]
        command += ["--model", str(place.model), "--device", "cpu", "--storage", "float32"]
    with place.folder.with_suffix(".log").open("ab") as file:
        return subprocess.Popen(  # noqa: S603 -- fixed words and own folders
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def wait_for(moment: Moment, place: Place, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a moment has come, or the process has ended."""
    while process.poll() is None and not moment(place):
        time.sleep(POLL_SECONDS)


def run_unbroken(scenario: Scenario, place: Place) -> float:
    """Run a training to its end and return for how many seconds it could be killed.

    Raises:
        RuntimeError: If it fails.
    """
    process = start(scenario, place)
    wait_for(scenario.begins, place, process)
    began = time.monotonic()
    wait_for(scenario.ends, place, process)
    seconds = time.monotonic() - began
    if process.wait() != 0:
        log = place.folder.with_suffix(".log")
        raise RuntimeError(f"{log}: expected a training that ends well, got this one")
    return seconds


def run_killed(
    scenario: Scenario, place: Place, delays: list[float]
) -> tuple[list[str], list[str]]:
    """Run a training that is killed once for each delay, and then to its end.

    Args:
        scenario: The training.
        place: Its folders.
        delays: Seconds from the first moment in which it may be killed to each kill.

    Returns:
        Where it was each time it was killed, and where it continued.

    Raises:
        RuntimeError: If it fails by itself.
    """
    killed = []
    for delay in delays:
        process = start(scenario, place)
        wait_for(scenario.begins, place, process)
        try:
            process.wait(timeout=delay)
            break  # it was quicker than the unbroken one
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed.append(reached(place.folder))
    log = place.folder.with_suffix(".log")
    if start(scenario, place).wait() != 0:
        raise RuntimeError(f"{log}: expected a training that continues, got this one")
    places = CONTINUING.findall(log.read_text(encoding="utf-8"))
    return killed, [where for where, _ in places]


def run_trial(
    scenario: Scenario, place: Place, unbroken: Path, delays: list[float]
) -> tuple[list[str], list[str]]:
    """Run a killed training, again with earlier kills if all came when nothing was left to do."""
    killed: list[str] = []
    continued: list[str] = []
    for attempt in range(ATTEMPTS):
        if attempt:
            if scenario.paints:
                shutil.rmtree(place.cache)
            shutil.rmtree(place.folder)
            place.folder.with_suffix(".log").unlink()
        killed, continued = run_killed(scenario, place, [delay / 2**attempt for delay in delays])
        if any(where != reached(unbroken) for where in killed):
            break
    return killed, continued


def reached(folder: Path) -> str:
    """Return the last step that a training has logged, and in which run; of an index its rows."""
    if (folder / INDEX).is_file():
        return f"{len(index_rows(folder))} rows"
    if _is_finished(folder / "metrics.json"):
        return "its end"
    for log in sorted(folder.rglob("metrics.csv"), key=lambda file: -file.stat().st_mtime):
        with log.open(newline="", encoding="utf-8") as rows:
            steps = [int(r["step"]) + 1 for r in csv.DictReader(rows) if r.get("train/loss")]
        if steps:
            run = "" if log.parent == folder else f"{log.parent.relative_to(folder)} "
            return f"{run}step {max(steps)}"
    return "the beginning"


def _is_finished(record: Path) -> bool:
    return record.is_file() and json.loads(record.read_text(encoding="utf-8"))["finished"]


def index_rows(folder: Path) -> dict[str, Any]:
    """Return what an index holds of each image, by path."""
    rows = "SELECT path, id, digest, fields, vector FROM images LEFT JOIN vectors USING (id)"
    try:
        with closing(sqlite3.connect(folder / INDEX)) as database:
            return {path: row for path, *row in database.execute(rows)}
    except sqlite3.OperationalError:  # killed before its tables were made
        return {}


def differences(folder: Path, other: Path) -> list[str]:
    """Return what differs between two trainings or indexes: metrics, files, weights, rows.

    Empty: nothing does.
    """
    if (other / INDEX).is_file():
        mine, its = index_rows(folder), index_rows(other)
        return sorted(path for path in mine.keys() | its.keys() if mine.get(path) != its.get(path))
    ours, theirs = (
        {
            str(file.relative_to(run)): file
            for pattern in ("metrics.json", "*.ckpt*")
            for file in run.rglob(pattern)
        }
        for run in (folder, other)
    )
    found = sorted(ours.keys() ^ theirs.keys())
    for name in sorted(ours.keys() & theirs.keys()):
        compare = _unequal_records if name.endswith(".json") else _unequal_weights
        found += [f"{name}: {key}" for key in compare(ours[name], theirs[name])]
    return found


def _unequal_records(file: Path, other: Path) -> list[str]:
    ours, theirs = (json.loads(f.read_text(encoding="utf-8")) for f in (file, other))
    return [name for name in ("metrics", "validations") if ours[name] != theirs[name]]


def _unequal_weights(file: Path, other: Path) -> list[str]:
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
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--folder", type=Path, help="keep the runs here; else they are removed")
    return parser.parse_args()


def main() -> int:
    """Run all trials; return the exit code."""
    arguments = parse_arguments()
    console = Console(highlight=False, soft_wrap=True)
    # The seed says when to kill; where that finds a run depends on what else the machine does.
    rng = random.Random(arguments.seed)  # noqa: S311 -- no secret
    root = (arguments.folder or Path(tempfile.mkdtemp())).resolve()
    root.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    equal = 0
    for number in range(arguments.trials):
        name = arguments.scenarios[number % len(arguments.scenarios)]
        scenario, slug = SCENARIOS[name], name.replace(" ", "_")
        unbroken = root / f"unbroken_{slug}"
        model = root / "unbroken_baseline"
        if not scenario.words and "baseline" not in seconds:
            seconds["baseline"] = run_unbroken(
                SCENARIOS["baseline"], Place(model, root / "cache", model)
            )
        if name not in seconds:
            cache = root / ("cache_unbroken" if scenario.paints else "cache")
            seconds[name] = run_unbroken(scenario, Place(unbroken, cache, model))
        folder = root / f"trial{number + 1:02d}_{slug}"
        cache = root / (f"cache{number + 1:02d}" if scenario.paints else "cache")
        delays = [rng.uniform(0, seconds[name]) for _ in range(rng.choice((1, 1, 2)))]
        killed, continued = run_trial(scenario, Place(folder, cache, model), unbroken, delays)
        found = differences(folder, unbroken)
        equal += not found
        console.print(
            f"{number + 1:>3}  {name:<24} killed after {', '.join(killed) or 'its end'}; "
            f"continued after {', '.join(continued) or 'nothing'}: "
            f"{'equal' if not found else f'DIFFERENT: {found[0]} and {len(found) - 1} more'}"
        )
    console.print(f"{equal} of {arguments.trials} equal")
    if arguments.folder is None:
        shutil.rmtree(root)
    return 0 if equal == arguments.trials else 1


if __name__ == "__main__":
    sys.exit(main())
