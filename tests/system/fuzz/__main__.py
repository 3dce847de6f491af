"""Run `tireid` on damaged data sets, run folders, weights and overrides.

    make fuzz ARGS="--cases 5000 --seed 1"

Each case is a valid sample with one thing wrong, and one command that reads it. It must be accepted
rightly or refused by one clear message, within 60 s and bounded memory, and read or write nothing
outside of its folder. `--only SEED:NUMBER` runs one case again, prints all of it and keeps its
files. Exit code 1 if a case fails.
"""

import argparse
import collections
import contextlib
import gc
import importlib
import io
import os
import pkgutil
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Read by libraries as they are imported.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "MPLBACKEND": "agg",
    "COLUMNS": "200",
}

from commands import exit_code
from pool import Outcome, run_cases
from samples import make_samples
from verdict import verdict

from tireid.console import say


def main() -> int:
    """Run the cases; return the exit code."""
    arguments = _parse()
    place = (arguments.folder or Path(tempfile.mkdtemp(prefix="tireid_fuzz_"))).resolve()
    samples = place / "samples"
    began = time.monotonic()
    _import_all()
    if not samples.is_dir():
        _in_fork(lambda: make_samples(samples, _run))
    _warm_up(samples)
    say(f"samples after {time.monotonic() - began:.0f} s: {samples}")
    names = arguments.only or [f"{arguments.seed}:{n}" for n in range(arguments.cases)]
    failures: list[tuple[Outcome, str]] = []
    for number, outcome in enumerate(
        run_cases(names, samples, place / "cases", workers=arguments.workers), start=1
    ):
        fault = verdict(outcome)
        if arguments.only:
            _show(outcome)
        elif not fault:
            shutil.rmtree(outcome.folder)
        if fault:
            failures.append((outcome, fault))
            say(f"{outcome.name:>8}  {_what(outcome)}: {fault}")
        if number % 500 == 0:
            say(f"{number:,} cases after {time.monotonic() - began:.0f} s")
    _summarise(len(names), failures, place)
    if arguments.folder is None and not failures and not arguments.only:
        shutil.rmtree(place)
    return 1 if failures else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="SEED:NUMBER", help="run these cases again")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="cases at once")
    parser.add_argument("--folder", type=Path, help="keep samples and failed cases here")
    return parser.parse_args()


def _import_all() -> None:
    """Import what commands import late, once for all forks."""
    import tireid

    for module in pkgutil.walk_packages(tireid.__path__, "tireid."):
        if not module.name.endswith("__main__") and "dashboard" not in module.name:
            with contextlib.suppress(ImportError):  # of an optional package
                importlib.import_module(module.name)


def _warm_up(samples: Path) -> None:
    """Compose, embed and draw once for all forks, and let them not look through what they share.

    Without gradients, after which torch refuses to compute others in a fork.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = shutil.copytree(samples / "baseline", Path(folder) / "run")
        _run(["evaluate", f"run={run}", "split=val"])
        _run(["compare", str(run)])
    gc.collect()
    gc.freeze()


def _in_fork(work: Callable[[], None]) -> None:
    """Do the work in a fork, so that this process stays without threads and can be forked."""
    process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(process, 0)[1] != 0:
        raise RuntimeError("expected samples, got the error above")


def _run(words: list[str]) -> None:
    if exit_code(words) != 0:
        raise RuntimeError(f"{shlex.join(words)}: expected a sample, got an error")


def _what(outcome: Outcome) -> str:
    command = outcome.facts.get("command", ["?"])
    return f"{command[0]}, {outcome.facts.get('what', '?')}"


def _show(outcome: Outcome) -> None:
    say(f"{_what(outcome)}\ntireid {shlex.join(outcome.facts.get('command', []))}")
    say(outcome.output + outcome.facts["fuzzer_error"])
    facts = {name: outcome.facts.get(name) for name in ("exit", "expected", "seconds", "noticed")}
    say(f"{facts}\n{outcome.folder}")


def _summarise(cases: int, failures: list[tuple[Outcome, str]], place: Path) -> None:
    kinds = collections.Counter(
        re.sub(r"[\d,]+|/\S+|'.*?'", "_", fault)[:90] for _, fault in failures
    )
    for kind, count in kinds.most_common():
        say(f"{count:>6}  {kind}")
    say(f"{cases - len(failures)} of {cases} cases as they should be")
    if failures:
        again = " ".join(outcome.name for outcome, _ in failures[:3])
        say(f'again: make fuzz ARGS="--folder {place} --only {again}"')


if __name__ == "__main__":
    sys.exit(main())
