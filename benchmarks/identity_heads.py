"""Time and memory of a training step by the number of training identities, all or a share scored.

    make bench-heads ARGS="--ids 1500 11000 --rounds 3"

Forward, backward and AdamW of the small encoders of the synthetic data set, a batch of 64. `exact`
scores all identities, `sampled` those of the batch and a share of the others. For each number of
identities both take turns, a step each a round; memory is the resident peak of a process that takes
two steps of one of them. What would need more than `--most` GiB is left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from lcr2s_step import composed, make_batch
from measured import LOAD, show_and_write
from tireid.console import silence_expected_warnings
from tireid.inference.build import build_encoders, build_model
from tireid.runs.environment import device_name, peak_memory_mib

METHODS = ("baseline", "lgur")
KINDS = ("exact", "sampled")
LEAST = 1000  # identities in a step of `sampled`
HEADS = {"baseline": 512, "lgur": 6 * 512}  # weights of an identity
Step = Callable[[], None]


def share_of(ids: int) -> float:
    """Return the share that is scored: a hundredth, or `LEAST` identities where that is more."""
    return min(1.0, max(0.01, LEAST / ids))


def make_step(method: str, kind: str, ids: int, size: int = 64) -> Step:
    """Return what takes one training step.

    Args:
        method: Name of the method.
        kind: `exact` or `sampled`.
        ids: Number of training identities.
        size: Pairs in the batch.
    """
    cfg = composed(f"model={method}", f"model.identity={kind}")
    cfg.model.identity_share = share_of(ids)
    torch.manual_seed(0)
    model = build_model(cfg, build_encoders(cfg), ids).train()
    batch = make_batch(size, list(cfg.dataset.image_size), 0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    for module in model.modules():
        if hasattr(module, "follow"):
            module.follow(optimizer)  # pyright: ignore[reportCallIssue] -- nn.Module attribute
    number = iter(range(1_000_000))

    def step() -> None:
        terms = model.training_terms(batch, next(number)).terms
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def gibibytes(method: str, kind: str, ids: int) -> float:
    """Return what weights, gradients and both moments of the head take."""
    rows = 4 * ids if kind == "exact" else (3 + 4 * share_of(ids)) * ids
    return rows * HEADS[method] * 4 / 2**30


def peak(method: str, kind: str, ids: int) -> float:
    """Return the peak memory in MiB of a process that takes two steps.

    To be called before this process takes memory: its own peak would be the other's least.
    """
    command = [sys.executable, __file__, "--measure", method, kind, str(ids)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- fixed words
    return json.loads(done.stdout)


def measure(method: str, kind: str, ids: int) -> None:
    """Write what `peak` reads."""
    step = make_step(method, kind, ids)
    step()
    step()
    sys.stdout.write(json.dumps(peak_memory_mib(torch.device("cpu"))))


def compare(
    method: str, ids: int, rounds: int, most: float, peaks: dict[str, float]
) -> list[dict[str, Any]]:
    """Return a row for each kind: seconds, their range, memory, and the head's own by formula.

    Args:
        method: Name of the method.
        ids: Number of training identities.
        rounds: Steps that are timed.
        most: GiB that the heads which take turns may need.
        peaks: Peak memory of the kinds that fit, in MiB.
    """
    sizes = {kind: gibibytes(method, kind, ids) for kind in KINDS}
    fitting = list(peaks)
    together = sum(sizes[kind] for kind in fitting) <= most
    seconds: dict[str, list[float]] = {kind: [] for kind in fitting}
    for group in [fitting] if together else [[kind] for kind in fitting]:
        steps = {kind: make_step(method, kind, ids) for kind in group}
        for number in range(rounds + 1):
            for kind, step in steps.items():
                began = time.process_time()
                step()
                if number:  # the first round warms up
                    seconds[kind].append(time.process_time() - began)
    pairs = zip(seconds.get("sampled", []), seconds.get("exact", []), strict=False)
    ratios = [mine / theirs for mine, theirs in pairs] if together else []
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        row: dict[str, Any] = {"method": method, "identity": kind, "ids": ids}
        row |= {"share": share_of(ids) if kind == "sampled" else 1.0, "head_gib": sizes[kind]}
        if kind in fitting:
            own = seconds[kind]
            row |= {"seconds": statistics.median(own), "range": [min(own), max(own)]}
            row["peak_mib"] = peaks[kind]
        if kind == "sampled" and ratios:
            row["ratio"] = statistics.median(ratios)
            row["ratio_range"] = [min(ratios), max(ratios)]
        rows.append(row)
    return rows


def make_table(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table."""
    table = Table(title="A training step by its identities", title_justify="left")
    table.caption = f"{device_name(torch.device('cpu'))}, load {LOAD:.1f} before"
    for column in ("method", "identity", "identities", "exact steps", "peak MiB", "head GiB"):
        table.add_column(column, justify="left" if column in ("method", "identity") else "right")
    for row in rows:
        name = f"sampled, {row['share']:.2g}" if row["share"] < 1 else row["identity"]
        time_of = "" if "seconds" not in row else f"{row['seconds']:.2f} CPU s"
        if "ratio" in row:
            time_of = "{:.2f} ({:.2f}, {:.2f})".format(row["ratio"], *row["ratio_range"])
        memory = f"{row['peak_mib']:,.0f}" if "peak_mib" in row else "not measured"
        head = f"{row['head_gib']:.2f}"
        table.add_row(row["method"], name, f"{row['ids']:,}", time_of, memory, head)
    return table


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--ids", type=int, nargs="+", default=[1500, 11_000, 50_000, 1_000_000])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=float, default=8, help="GiB that a head may need")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/identity_heads.json"))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    silence_expected_warnings()
    torch.set_num_threads(1)
    if arguments.measure:
        method, kind, ids = arguments.measure
        return measure(method, kind, int(ids))
    cases = list(product(arguments.methods, arguments.ids))
    most = arguments.most
    peaks = [
        {k: peak(method, k, ids) for k in KINDS if gibibytes(method, k, ids) <= most}
        for method, ids in cases
    ]
    rows: list[dict[str, Any]] = []
    for (method, ids), found in zip(cases, peaks, strict=True):
        rows += compare(method, ids, arguments.rounds, most, found)
    table = make_table(rows)
    show_and_write(arguments.output, table, found=rows)
    return None


if __name__ == "__main__":
    main()
