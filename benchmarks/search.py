"""Time and memory of the embedded engine, and the rate at which images are indexed.

    make bench-search
    make bench-search ARGS="--run runs/synthetic/lgur/latest"

Vectors are random, which is the hardest case: all scores lie close together. Recall is measured
against exact scores of the float32 vectors. With a run, JPEGs are drawn and indexed, and their rate
is compared with that of `Retriever.encode_image` on a list in one process.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

import tireid
from measured import LOAD, show_and_write
from tireid.console import say
from tireid.files import available_cores
from tireid.search.engines.embedded import EmbeddedEngine
from tireid.search.engines.interface import Row
from tireid.search.indexing import IndexOptions, build_index

_AT_ONCE = 10_000
_K = 10
_SIZE = (160, 480)


class Searched(NamedTuple):
    """What a search costs and finds.

    Attributes:
        fill_s: Seconds to store the vectors.
        load_s: Seconds of the first query, which loads them.
        p50_ms: Median time of a query.
        cpu_ms: Mean CPU time of a query.
        recall: Share of the exact best ten that is found.
        peak_mib: Most memory of the process so far.
    """

    fill_s: float
    load_s: float
    p50_ms: float
    cpu_ms: float
    recall: float
    peak_mib: float


def search(folder: Path, count: int, dim: int, queries: int, storage: str) -> Searched:
    """Fill an engine with random vectors and search it.

    Args:
        folder: Empty folder.
        count: Number of vectors.
        dim: Their width.
        queries: Number of queries, one at a time.
        storage: How vectors are kept.
    """
    random = torch.Generator().manual_seed(0)
    asked = F.normalize(torch.randn(queries, dim, generator=random), dim=1)
    exact = torch.full((queries, _K), -torch.inf)
    best = torch.zeros(queries, _K, dtype=torch.long)
    writer = EmbeddedEngine(folder, dim, storage)
    fill = 0.0
    for start in range(0, count, _AT_ONCE):
        vectors = F.normalize(torch.randn(min(_AT_ONCE, count - start), dim, generator=random))
        ids = torch.arange(start, start + len(vectors))
        exact, best = _merged(exact, best, asked @ vectors.mT, ids)
        rows = [Row(n, f"/{n}.jpg", "/", 1, 1, str(n), {"camera": n % 9}) for n in ids.tolist()]
        began = time.perf_counter()
        writer.add(rows, vectors)
        fill += time.perf_counter() - began
    writer.close()
    engine = EmbeddedEngine(folder, dim, storage, read_only=True)
    began = time.perf_counter()
    engine.search(asked[:1], _K)
    load = time.perf_counter() - began
    times, hits, cpu = [], 0, time.process_time()
    for query, expected in zip(asked, best.tolist(), strict=True):
        began = time.perf_counter()
        (found,) = engine.search(query[None], _K)
        times.append(1000 * (time.perf_counter() - began))
        hits += len({match.row.id for match in found} & set(expected))
    cpu = 1000 * (time.process_time() - cpu) / queries
    engine.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return Searched(fill, load, statistics.median(times), cpu, hits / (_K * queries), peak)


def _merged(
    scores: Float[Tensor, "query k"], ids: Tensor, more: Float[Tensor, "query rows"], keys: Tensor
) -> tuple[Tensor, Tensor]:
    joined = torch.cat([scores, more], dim=1)
    names = torch.cat([ids, keys.expand(len(ids), -1)], dim=1)
    kept = joined.topk(_K)
    return kept.values, names.gather(1, kept.indices)


def index(folder: Path, run: str, count: int) -> tuple[float, float]:
    """Index drawn JPEGs, and embed them as a list; return both rates, in images a second.

    Args:
        folder: Empty folder.
        run: The model.
        count: Number of images.
    """
    random = np.random.default_rng(0)
    paths = [folder / "images" / f"{number:06d}.jpg" for number in range(count)]
    paths[0].parent.mkdir()
    for path in paths:
        coarse = random.integers(0, 255, (24, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(_SIZE).save(path, quality=90)
    retriever = tireid.load(run, "cpu")
    retriever.encode_image(paths[:64])
    began = time.perf_counter()
    retriever.encode_image(paths)
    listed = count / (time.perf_counter() - began)
    options = IndexOptions(model=run, device="cpu")
    began = time.perf_counter()
    build_index([folder / "images"], folder / "gallery", options)
    return count / (time.perf_counter() - began), listed


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Time the search of an index.")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--storage", default="float16")
    parser.add_argument("--run", help="index images with this model too")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path("runs/bench/search.json"))
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        found = search(
            Path(folder), arguments.vectors, arguments.dim, arguments.queries, arguments.storage
        )
    table = Table(title=f"{arguments.vectors:,} vectors of {arguments.dim}, {arguments.storage}")
    table.caption = f"{available_cores()} cores, {threads} threads, load {LOAD:.1f} before"
    table.add_column("", justify="left")
    table.add_column("", justify="right")
    for name, value in {
        "CPU ms a query": f"{found.cpu_ms:.1f}",
        "p50 ms of a query": f"{found.p50_ms:.1f}",
        f"recall@{_K} against exact float32": f"{found.recall:.4f}",
        "peak memory of the process, MiB": f"{found.peak_mib:,.0f}",
        "storing all, s": f"{found.fill_s:.1f}",
        "loading all, s": f"{found.load_s:.1f}",
    }.items():
        table.add_row(name, value)
    show_and_write(arguments.output, table, found=found._asdict())
    if arguments.run:
        with tempfile.TemporaryDirectory() as folder:
            indexed, listed = index(Path(folder), arguments.run, arguments.images)
        say(
            f"{arguments.images:,} JPEGs: {indexed:.0f} images/s indexed, {listed:.0f} as a list "
            f"in one process: {indexed / listed:.2f} x"
        )


if __name__ == "__main__":
    main()
