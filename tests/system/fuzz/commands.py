"""Run one case in this process, which is forked for it, and write down what happened."""

import json
import math
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

from case import Place
from cases import make_case
from files import write_outside
from stand_ins import install
from values import SECRET
from watch import watch

OUTCOME, OUTPUT = "outcome.json", "output.txt"
_LARGEST_FILE = 2 * 2**30
CANARY = "canary-91c2f0"


def run_case(name: str, samples: Path, folder: Path) -> None:
    """Make a case in an empty folder and run it; leaves `outcome.json` and `output.txt`.

    Args:
        name: Seed and number.
        samples: Valid files.
        folder: Of the case.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ[SECRET] = CANARY
    place = Place(samples, folder / "inside", folder / "outside")
    write_outside(place.outside)
    for part in ("home", "cache", "tmp", ""):
        (place.inside / part).mkdir(parents=True, exist_ok=True)
    case = make_case(Random(name), place)  # noqa: S311 -- no secret
    outcome: dict[str, Any] = {**case._asdict(), "noticed": []}
    write(folder, outcome)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    surround(place.inside)
    before = listing(place.outside)
    sys.stdout.flush()
    handle = os.open(folder / OUTPUT, os.O_CREAT | os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(handle, descriptor)
    noticed: list[str] = []
    watch(place.inside, place.outside, noticed)
    began, since = time.monotonic(), time.time()
    outcome["exit"] = exit_code(case.command)
    outcome["seconds"] = round(time.monotonic() - began, 2)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    outcome["noticed"] = sorted(set(noticed)) + wrong_files(place.inside, since)
    if listing(place.outside) != before:
        outcome["noticed"].append("changed the folder outside")
    outcome["done"] = True
    noticed.clear()
    write(folder, outcome)


def write(folder: Path, outcome: dict[str, Any]) -> None:
    """Write what is known of a case so far."""
    (folder / OUTCOME).write_text(json.dumps(outcome))


def surround(inside: Path) -> None:
    """Let home, cache and temporary files be the case's own."""
    os.environ |= {"HOME": str(inside / "home"), "XDG_CACHE_HOME": str(inside / "cache")}
    os.environ["TMPDIR"] = str(inside / "tmp")
    tempfile.tempdir = None
    os.chdir(inside)


def exit_code(words: list[str]) -> int:
    """Run a command line of `tireid` in this process and return its exit code."""
    install(words)
    try:
        if words[0] == "load":
            _load(*words[1:])
        else:
            from tireid.cli.main import main

            sys.argv = ["tireid", *words]
            main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(f"error: {stop.code}\n")
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _load(folder: str, *images: str) -> None:
    import tireid

    try:
        retriever = tireid.load(folder, "cpu")
        rows = [*retriever.encode_text(["a red coat", ""]), *retriever.encode_image(images)]
    except (ValueError, OSError) as error:
        sys.exit(str(error) or "no message")
    for row in rows:
        if not math.isclose(float(row.norm()), 1, abs_tol=1e-4):
            raise AssertionError(f"expected embeddings of norm 1, got {float(row.norm())}")


def wrong_files(inside: Path, began: float) -> list[str]:
    """Return what is wrong in the files that a case wrote: a secret, or an impossible metric.

    Args:
        inside: Folder of the case.
        began: When its command did, as files are dated.
    """
    found = []
    for file in inside.rglob("*"):
        if not file.is_file() or file.is_symlink() or file.stat().st_size > 2**20:
            continue
        if CANARY.encode() in file.read_bytes():
            found.append(f"the secret of the environment is in {file.relative_to(inside)}")
    for file in (inside / "run").glob("evaluation_*_*.json"):
        if file.lstat().st_mtime < began or not file.is_file() or file.is_symlink():
            continue
        try:
            metrics = json.loads(file.read_text())["metrics"].values()
            if not all(0 <= value <= 100 for value in metrics if value is not None):
                found.append(f"{file.name} has metrics outside of [0, 100]")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue  # what the case damaged
    return found


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of all files below a folder."""
    files = sorted(folder.rglob("*"))
    return [(str(f), f.lstat().st_size, f.lstat().st_mtime_ns) for f in files]
