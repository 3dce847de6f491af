"""Run all benchmarks of a CPU and print one table of their ratios, each beside what is asked.

    make bench                                      # about half an hour
    make bench ARGS="--only evaluation input"       # some of them, beside what the others left
    make bench ARGS="--only"                        # none: the table of what is there

Each row compares two works that took turns in one process, as its own benchmark does; a row whose
benchmark left no file is shown as not measured.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from measured import LOAD, show_and_write

FOLDER = Path("runs/bench")
BENCHES = {
    "lgur_step": "bench-step",
    "lcr2s_step": "bench-supports",
    "identity_heads": "bench-heads",
    "evaluation": "bench-evaluation",
    "large_gallery": "bench-gallery",
    "input": "bench-input",
}
LGUR_ASKED = {"tireid": 2.0, "tireid, text cache": 2.4, "tireid, text cache, bf16": 4.0}
Found = dict[str, Any]


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        work: The work that is measured.
        peer: What it is compared with, in the same run.
        value: Ratio, or another number with its unit.
        spread: Lowest and highest of the rounds, if there are some.
        asked: Bound of the ratio: at most where negative, at least where positive; None: no bound.
        unit: Of the value; empty for a ratio.
    """

    work: str
    peer: str
    value: float
    spread: tuple[float, float] | None
    asked: float | None
    unit: str = ""

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Return the cells of the row, the last one telling whether what is asked is kept."""
        form = "{:,.0f} " + self.unit if self.unit else "{:.2f}"
        spread = "" if self.spread is None else "{:.2f}, {:.2f}".format(*self.spread)
        if self.asked is None:
            return self.work, self.peer, form.format(self.value), spread, "", ""
        word, kept = "at least", self.value >= self.asked
        if self.asked < 0:
            word, kept = "at most", self.value <= -self.asked
        asked = f"{word} {form.format(abs(self.asked))}"
        return self.work, self.peer, form.format(self.value), spread, asked, "yes" if kept else "no"


def lgur_rows(found: Found) -> Iterator[Row]:
    """Return LGUR's training steps in those of the eager reference."""
    for name, asked in LGUR_ASKED.items():
        row = found["variants"][name]
        spread = row["speed_ratio_range"]
        yield Row(f"LGUR, speed of {name}", "reference", row["speed_ratio"], spread, asked)


def lcr2s_rows(found: Found) -> Iterator[Row]:
    """Return LCR2S's steps in those of the baseline."""
    for name, row in found["variants"].items():
        if name != "baseline":
            yield Row(f"LCR2S, {name}", "baseline step", row["baseline_steps"], row["range"], None)


def head_rows(found: Found) -> Iterator[Row]:
    """Return the steps that score a share of the identities in those that score all."""
    for row in found["found"]:
        if row["identity"] == "sampled" and "seconds" in row:
            work = f"{row['method']}, {row['ids']:,} identities sampled"
            if "ratio" in row:
                yield Row(work, "exact step", row["ratio"], row["ratio_range"], None)
            yield Row(f"{work}, memory", "", row["peak_mib"], None, None, "MiB")


def evaluation_rows(found: Found) -> Iterator[Row]:
    """Return exact evaluation, records and one query in products of the same sizes."""
    for name, asked in {"CUHK-PEDES": -1.5, "ICFG-PEDES": -1.7}.items():
        for kind in ("trained", "untrained"):
            works = found["found"][f"{name}, {kind}"]
            row = works["evaluation"]
            spread = row["lowest"], row["highest"]
            work = f"evaluation, {name}, {kind}"
            yield Row(work, "float32 product", row["ratio"], spread, asked)
            ratio = works["per-query records"]["seconds"] / row["seconds"]
            yield Row(f"records, {name}, {kind}", "evaluation", ratio, None, -1.5)
    (name,) = (name for name in found["found"] if name.startswith("one query"))
    row = found["found"][name]["top_k"]
    yield Row(name, "product, topk", row["ratio"], (row["lowest"], row["highest"]), -1.5)


def gallery_rows(found: Found) -> Iterator[Row]:
    """Return the memory of an evaluation beyond its inputs."""
    for dim, row in found["found"].items():
        work = f"evaluation, {found['images']:,} images of {int(dim):,}"
        yield Row(work, "its inputs", row["peak_mib"], None, -2 * 10**9 / 2**20, "MiB")


def input_rows(found: Found) -> Iterator[Row]:
    """Return the speeds of input in that of `decode=pillow`."""
    asked = {("160x480", "fast"): 1.5, ("160x480", "packed"): 15.0, ("400x1000", "fast"): 2.5}
    for (size, way), least in asked.items():
        row = found["found"][size][way]
        spread = row["lowest"], row["highest"]
        yield Row(f"input, {size}, {way}", "decode=pillow", row["ratio"], spread, least)


ROWS: dict[str, Callable[[Found], Iterator[Row]]] = {
    "lgur_step": lgur_rows,
    "lcr2s_step": lcr2s_rows,
    "identity_heads": head_rows,
    "evaluation": evaluation_rows,
    "large_gallery": gallery_rows,
    "input": input_rows,
}


def make_table(folder: Path) -> Table:
    """Return the table of what the benchmarks have left in a folder."""
    table = Table(title="All benchmarks", title_justify="left", caption_justify="left")
    table.caption = f"load {LOAD:.1f} before; lowest and highest of the rounds"
    columns = ("work", "compared with", "times", "lowest, highest", "asked", "kept", "make")
    for name in columns:
        table.add_column(name, justify="left" if name in columns[:2] else "right")
    for bench, target in BENCHES.items():
        file = folder / f"{bench}.json"
        if not file.is_file():
            table.add_row(bench, "", "not measured", "", "", "", target)
            continue
        for row in ROWS[bench](json.loads(file.read_text(encoding="utf-8"))):
            table.add_row(*row.cells(), target)
    return table


def main() -> int:
    """Run, show and write; the exit code is 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--only", nargs="*", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the benchmarks' files")
    arguments = parser.parse_args()
    failed: list[str] = []
    for bench in arguments.only:
        script = Path(__file__).with_name(f"{bench}.py")
        output = arguments.folder / f"{bench}.json"
        command = [sys.executable, str(script), "--output", str(output)]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 -- fixed words
            failed.append(bench)
    show_and_write(arguments.folder / "overview.json", make_table(arguments.folder))
    for bench in failed:
        sys.stderr.write(f"failed: {bench}; run it alone: make {BENCHES[bench]}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
