"""Check and time everything that a GPU changes, in one command without a network.

    make bench-gpu                      # one GPU, about 10 minutes
    make bench-gpu ARGS="--tiny"        # tiny sizes on any machine: only shows that it runs

Runs the tests marked `gpu`, times the training steps at their published sizes, exact evaluation
and the input pipeline, and trains the three methods on the synthetic data set. A part that fails
is reported and does not stop the others; the exit code is 1 then.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from gpu_steps import PRECISIONS, STEPS, Precision, Step, training_step
from lcr2s_step import composed
from measured import cells, origin
from tireid.console import silence_expected_warnings
from tireid.files import write_json
from tireid.inference.build import build_datamodule
from tireid.retrieval import evaluate_embeddings
from tireid.runs.environment import device_name

ROOT = Path(__file__).parents[1]
METHODS = ("baseline", "lgur", "lcr2s")
GALLERIES = {"ICFG-PEDES test": (19_848, 19_848), "100,000 x 100,000": (100_000, 100_000)}
TINY_GALLERIES = {"tiny": (200, 100)}
FEW = ["max_epochs=1", "batch_size=16", "dataset.read.num_train_ids=24"]
FEW += ["dataset.read.num_val_ids=6", "dataset.read.num_test_ids=10"]
WARM_UP = 3

Rows = list[dict[str, Any]]


class Bench:
    """One run of all parts: its device, its clock and what it found.

    Args:
        arguments: The command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.tiny: bool = arguments.tiny
        self.rounds: int = arguments.rounds
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.ends = time.monotonic() + 60 * arguments.minutes
        self.errors: dict[str, str] = {}
        self.console = Console(highlight=False)

    @property
    def seconds_left(self) -> float:
        """Seconds until the time is used up."""
        return self.ends - time.monotonic()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Report what fails inside instead of stopping."""
        began = time.monotonic()
        self.console.print(f"[bold]{name}[/bold]")
        try:
            yield
        except Exception as error:  # a part that fails is a finding
            self.errors[name] = "".join(traceback.format_exception(error)).strip()
            lines = str(error).strip().splitlines() or [""]
            self.console.print(f"  failed: {type(error).__name__}: {lines[0]}", style="red")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.console.print(f"  {time.monotonic() - began:.0f} s")

    def check_time(self) -> None:
        """Raise `TimeoutError` if the time is used up, so that the part is reported as failed."""
        if self.seconds_left <= 0:
            raise TimeoutError("no time left: --minutes")

    def clock(self) -> float:
        """Return the seconds of a clock, after everything queued on the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def run_tests(bench: Bench) -> dict[str, int | list[str]]:
    """Run the tests marked `gpu`; return the counts, and the names of those that failed."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "no:benchmark"]  # an installed pytest-benchmark warns beside workers
    command += ["tests/system/test_gpu.py"] if bench.tiny else ["tests"]
    workers = min(4, os.cpu_count() or 1)
    command += [] if bench.tiny else ["-n", str(workers), "--dist", "loadfile"]
    done = subprocess.run(  # noqa: S603 -- fixed words
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=max(bench.seconds_left, 1),
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1]
    found = re.findall(r"(\d+) (passed|failed|skipped|error)", last)
    counts = {word: int(number) for number, word in found}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, flags=re.MULTILINE)
    bench.console.print(f"  {last.strip('= ')}")
    if failed or not counts:
        bench.errors["tests"] = done.stdout[-20_000:]
    return {**counts, "failures": failed}


def time_steps(bench: Bench) -> Rows:
    """Time each training step at its published size in each precision."""
    rows: Rows = []
    for step in STEPS:
        for precision in PRECISIONS:
            if precision.compiled and (bench.tiny or not step.compiled):
                continue
            name = f"{step.name}, {precision.name}"
            with bench.part(name):
                bench.check_time()
                rows.append(time_step(bench, step, precision))
    return rows


def time_step(bench: Bench, step: Step, precision: Precision) -> dict[str, Any]:
    """Return median, range and peak memory of a training step, and its speed back to back."""
    take = training_step(step, precision, bench.device, tiny=bench.tiny)
    began = bench.clock()
    for _ in range(WARM_UP):
        take()
    first = bench.clock() - began
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(bench.rounds):
        began = bench.clock()
        take()
        seconds.append(bench.clock() - began)
    began = bench.clock()
    for _ in range(bench.rounds):
        take()
    together = bench.clock() - began
    memory = torch.cuda.max_memory_allocated() / 2**20 if bench.device.type == "cuda" else None
    row = {
        "step": step.name,
        "precision": precision.name,
        "milliseconds": 1e3 * statistics.median(seconds),
        "range": [1e3 * min(seconds), 1e3 * max(seconds)],
        "images_per_second": take.batch_size * bench.rounds / together,
        "peak_mib": memory,
        "warm_up_seconds": first,
    }
    bench.console.print(
        f"  {row['milliseconds']:.1f} ms, {row['images_per_second']:.0f} images/s"
        + (f", {memory:.0f} MiB" if memory else "")
    )
    return row


def time_evaluation(bench: Bench) -> Rows:
    """Time exact evaluation of random embeddings against one float32 product of the same size."""
    rows: Rows = []
    for name, (texts, images) in (TINY_GALLERIES if bench.tiny else GALLERIES).items():
        with bench.part(f"evaluation, {name}"):
            bench.check_time()
            generator = torch.Generator(bench.device).manual_seed(0)
            sides = [
                torch.randn(number, 512, device=bench.device, generator=generator)
                for number in (texts, images)
            ]
            ids = images // 4
            pids = [torch.arange(number, device=bench.device) % ids for number in (texts, images)]
            evaluate_embeddings(sides[0][:256], sides[1], pids[0][:256], pids[1])
            if bench.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            began = bench.clock()
            evaluate_embeddings(*sides, *pids)
            seconds = bench.clock() - began
            peak = torch.cuda.max_memory_allocated() if bench.device.type == "cuda" else None
            began = bench.clock()
            for start in range(0, texts, 256):
                torch.mm(sides[0][start : start + 256], sides[1].T)
            product = bench.clock() - began
            rows.append(
                {
                    "size": name,
                    "seconds": seconds,
                    "product_seconds": product,
                    "peak_mib": None if peak is None else peak / 2**20,
                }
            )
            bench.console.print(f"  {seconds:.2f} s, {seconds / product:.1f} x a float32 product")
    return rows


def time_input(bench: Bench) -> Rows:
    """Time the training batches of 384x128 images that the loader brings, by number of workers."""
    rows: Rows = []
    ids = 24 if bench.tiny else 400
    for workers in (0, min(4, os.cpu_count() or 1), os.cpu_count() or 1):
        with bench.part(f"input, {workers} workers"):
            bench.check_time()
            cfg = composed(
                f"dataset.read.num_train_ids={ids}",
                "dataset.image_size=[384,128]",
                "dataset.cache_images=false",
                f"dataset.num_workers={workers}",
                f"batch_size={16 if bench.tiny else 64}",
            )
            datamodule = build_datamodule(cfg)
            datamodule.setup("fit")
            number, began = 0, None
            for batch in datamodule.train_dataloader():
                if began is None:  # the workers have started
                    began = time.perf_counter()
                    continue
                number += len(batch.pid)
            seconds = time.perf_counter() - (began or 0)
            rows.append({"workers": workers, "images_per_second": number / seconds})
            bench.console.print(f"  {number / seconds:.0f} images/s")
    return rows


def train_methods(bench: Bench) -> Rows:
    """Train each method as `make train` does, on the GPU if there is one."""
    rows: Rows = []
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            with bench.part(f"train, {method}"):
                bench.check_time()
                words = [f"model={method}", f"hydra.run.dir={folder}/{method}", "logger=csv"]
                words += ["trainer=gpu"] if bench.device.type == "cuda" else []
                words += FEW if bench.tiny else []
                began = time.monotonic()
                done = subprocess.run(  # noqa: S603 -- fixed words
                    [sys.executable, "-m", "tireid", "train", *words], cwd=ROOT, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    timeout=max(bench.seconds_left, 1),
                )  # fmt: skip
                if done.returncode:
                    raise RuntimeError(done.stdout[-3000:])
                record = json.loads(
                    (Path(folder) / method / "metrics.json").read_text(encoding="utf-8")
                )
                rows.append(
                    {
                        "method": method,
                        "seconds": time.monotonic() - began,
                        "metrics": record["metrics"],
                        "images_per_second": record.get("images_per_second"),
                    }
                )
                bench.console.print(f"  test R@1 {record['metrics']['test/R1']:.2f}")
    return rows


def step_table(rows: Rows, device: str) -> Table:
    """Return the table of the training steps."""
    table = Table(title=f"Training steps, {device}", title_justify="left")
    for column in ("step", "precision", "ms a step", "images a second", "peak MiB"):
        table.add_column(column, justify="left" if column in ("step", "precision") else "right")
    for row in rows:
        low, high = row["range"]
        memory = row["peak_mib"]
        table.add_row(
            row["step"],
            row["precision"],
            f"{row['milliseconds']:.1f} ({low:.0f}-{high:.0f})",
            f"{row['images_per_second']:,.0f}",
            "" if memory is None else f"{memory:,.0f}",
        )
    return table


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: only shows that it runs")
    parser.add_argument("--rounds", type=int, help="steps that are timed (15; tiny 2)")
    parser.add_argument("--minutes", type=float, default=10, help="no part begins after these")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("runs/bench/gpu.json"))
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.tiny else 15)
    return arguments


PARTS = {
    "steps": time_steps,
    "evaluation": time_evaluation,
    "tests": run_tests,
    "input": time_input,
    "training": train_methods,
}


def main() -> int:
    """Run the parts, write what they found after each, and return the exit code."""
    arguments = parse_arguments()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as a deterministic run has it
    silence_expected_warnings()
    bench = Bench(arguments)
    torch.use_deterministic_algorithms(bench.device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue] -- as a run
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        **origin(bench.device),
        "tiny": bench.tiny,
    }
    for name in arguments.parts:
        with bench.part(name):
            bench.check_time()
            results[name] = PARTS[name](bench)
        if name == "steps":
            results["table"] = cells(step_table(results[name], device_name(bench.device)))
        write_json(arguments.output, results | {"errors": bench.errors})
    if "steps" in results:
        bench.console.print(step_table(results["steps"], device_name(bench.device)))
    for name in bench.errors:
        bench.console.print(f"failed: {name}; see {arguments.output}", style="red", soft_wrap=True)
    bench.console.print(f"written: {arguments.output}", soft_wrap=True)
    return 1 if bench.errors else 0


if __name__ == "__main__":
    sys.exit(main())
