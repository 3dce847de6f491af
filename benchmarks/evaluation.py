"""Time of exact evaluation, in float32 products of the same sizes.

    make bench-evaluation ARGS="--rounds 5"

Evaluation, per-query records, the way of IRRA's code (argsort of the whole similarity matrix) and
the search of one query in a gallery that is kept take turns in one process, on random embeddings
(an untrained model) and on embeddings of people and noise (a trained one). CPU seconds: compare the
ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from measured import LOAD, show_and_write
from tireid.retrieval import Gallery, evaluate_embeddings, top_k
from tireid.retrieval.query_results import query_results
from tireid.runs.environment import device_name

SIZES = {"CUHK-PEDES": (6156, 3074, 1000), "ICFG-PEDES": (2481, 19_848, 946)}
DIM = 512
GALLERY = 100_000
PRODUCT = "float32 product"
Split = tuple[Tensor, Tensor, Tensor, Tensor]


def embeddings(number: int, pids: Tensor, people: Tensor, noise: float) -> Tensor:
    """Return embeddings of `number` items: their people's, and noise of as few directions."""
    directions = people.shape[1]
    values = people[pids] + noise * torch.randn(number, directions)
    basis = torch.randn(directions, DIM, generator=torch.Generator().manual_seed(7))
    return values @ basis


def split(size: tuple[int, int, int], *, trained: bool) -> Split:
    """Return embeddings and identities of texts and images."""
    texts, images, ids = size
    pids = torch.arange(texts) % ids, torch.arange(images) % ids
    if not trained:
        return torch.randn(texts, DIM), torch.randn(images, DIM), *pids
    people = torch.randn(ids, 64)
    sides = zip((texts, images), pids, (1.0, 0.7), strict=True)
    made = [embeddings(number, own, people, noise) for number, own, noise in sides]
    return made[0], made[1], *pids


def argsort_evaluation(texts: Tensor, images: Tensor, text_pids: Tensor, image_pids: Tensor) -> int:
    """Rank as IRRA's code does: the whole matrix, sorted; return the hits at rank 1."""
    similarity = F.normalize(texts, dim=1) @ F.normalize(images, dim=1).T
    order = similarity.argsort(dim=1, descending=True)
    matches = image_pids[order] == text_pids[:, None]
    precision = matches.cumsum(1) / torch.arange(1, len(images) + 1)
    _ = (precision * matches).sum(1) / matches.sum(1)
    return int(matches[:, 0].sum())


def works(size: tuple[int, int, int], *, trained: bool) -> dict[str, Callable[[], object]]:
    """Return what is compared, by name."""
    texts, images, text_pids, image_pids = sides = split(size, trained=trained)
    own = torch.full((len(texts),), -1)
    return {
        PRODUCT: lambda: texts @ images.T,
        "evaluation": lambda: evaluate_embeddings(texts, images, text_pids, image_pids),
        "per-query records": lambda: query_results(*sides, own),
        "argsort": lambda: argsort_evaluation(*sides),
    }


def one_query() -> dict[str, Callable[[], object]]:
    """Return the search of one query, and the product and sort it stands on."""
    query, images = F.normalize(torch.randn(1, DIM)), F.normalize(torch.randn(GALLERY, DIM))
    kept = Gallery(images, keep=True)
    return {
        PRODUCT: lambda: (query @ images.T).topk(10),
        "top_k": lambda: top_k(query, kept, 10),
    }


def ratios(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Return each work's median CPU seconds, and their ratio to the product's by round."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name, work in timed.items():
            began = time.process_time()
            work()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - began)
    summary = {}
    for name, own in seconds.items():
        by_round = [mine / floor for mine, floor in zip(own, seconds[PRODUCT], strict=True)]
        summary[name] = {
            "seconds": statistics.median(own),
            "ratio": statistics.median(by_round),
            "lowest": min(by_round),
            "highest": max(by_round),
        }
    return summary


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="waiting takes CPU time, too")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/evaluation.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    found = {
        f"{name}, {kind}": ratios(works(size, trained=kind == "trained"), arguments.rounds)
        for name, size in SIZES.items()
        for kind in ("trained", "untrained")
    }
    found[f"one query in {GALLERY:,}"] = ratios(one_query(), 5 * arguments.rounds)
    table = Table(title="Exact evaluation", title_justify="left", caption_justify="left")
    device = device_name(torch.device("cpu"))
    table.caption = f"{device}, load {LOAD:.1f} before, {DIM} values each"
    for name in ("embeddings", "work", "CPU s", "times the product", "lowest, highest"):
        table.add_column(name, justify="left" if name in ("embeddings", "work") else "right")
    for name, summary in found.items():
        for work, row in summary.items():
            spread = f"{row['lowest']:.2f}, {row['highest']:.2f}"
            table.add_row(name, work, f"{row['seconds']:.3f}", f"{row['ratio']:.2f}", spread)
            name = ""
    show_and_write(arguments.output, table, found=found)


if __name__ == "__main__":
    main()
