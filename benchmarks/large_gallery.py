"""Memory of an exact evaluation beyond its inputs, with a gallery of a million images.

    make bench-gallery ARGS="--images 1000000 --dims 512 3072"

Each width is a process of its own, since the peak of a process never falls. The images are
overlapping windows of one row of random numbers: all different, and only a few megabytes, so that
the peak is what the evaluation needs.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from measured import LOAD, show_and_write
from tireid.retrieval import evaluate_embeddings
from tireid.runs.environment import device_name, peak_memory_mib

Found = dict[str, float]


def windows(number: int, dim: int) -> Tensor:
    """Return `number` rows of `dim` random values that share their memory."""
    return torch.randn(number + dim - 1).as_strided((number, dim), (1, 1))


def measure(texts: int, images: int, dim: int) -> Found:
    """Return the peak beyond what was there before, in MiB, and the CPU seconds."""
    torch.manual_seed(0)
    gallery, queries = windows(images, dim), windows(texts, dim)
    pids = torch.arange(images) // 4
    evaluate_embeddings(gallery[:64], gallery[:64], pids[:64], pids[:64])  # loads what is used
    before, began = peak_memory_mib(torch.device("cpu")), time.process_time()
    evaluate_embeddings(queries, gallery, pids[:texts], pids)
    seconds = time.process_time() - began
    return {"peak_mib": peak_memory_mib(torch.device("cpu")) - before, "seconds": seconds}


def in_a_process(texts: int, images: int, dim: int) -> Found:
    """Return what `measure` finds in a process that does nothing else."""
    command = [sys.executable, __file__, "--texts", str(texts), "--images", str(images)]
    done = subprocess.run(  # noqa: S603 -- fixed words
        [*command, "--measure", str(dim)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 3072])
    parser.add_argument("--output", type=Path, default=Path("runs/bench/large_gallery.json"))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.measure:
        found = measure(arguments.texts, arguments.images, arguments.measure)
        sys.stdout.write(json.dumps(found))
        return
    rows = {dim: in_a_process(arguments.texts, arguments.images, dim) for dim in arguments.dims}
    size = f"{arguments.texts:,} texts, {arguments.images:,} images"
    table = Table(title="Evaluation, memory beyond the inputs", title_justify="left")
    table.caption = f"{device_name(torch.device('cpu'))}, load {LOAD:.1f} before; {size}"
    for column in ("values an embedding", "MiB beyond the inputs"):
        table.add_column(column, justify="left" if column[0] == "v" else "right")
    for dim, row in rows.items():
        table.add_row(f"{dim:,}", f"{row['peak_mib']:,.0f}")
    sizes = {"texts": arguments.texts, "images": arguments.images}
    show_and_write(arguments.output, table, **sizes, found=rows)


if __name__ == "__main__":
    main()
