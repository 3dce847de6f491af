"""Time of LCR2S's training steps, in baseline steps of the same batch.

    make bench-supports ARGS="--rounds 20"

Forward, backward and optimiser of the small encoders on random weights and one random batch: the
control, the teacher with each source of supports, the student. They take turns in one process, a
step each a round, so that whatever else the machine does hits them all: compare the ratios.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from torch import Tensor

from measured import LOAD, show_and_write
from tireid.console import silence_expected_warnings
from tireid.files import conf_dir
from tireid.inference.build import build_encoders, build_model
from tireid.methods.base import RetrievalModule
from tireid.methods.lcr2s import Lcr2s
from tireid.methods.lcr2s.targets import TargetTable
from tireid.runs.environment import device_name
from tireid.structures import PairBatch, SupportBatch

BASELINE = "baseline"
PAIRS_PER_ID = 4  # of the batch
LENGTHS = (12, 42)  # of the captions, in words
NUM_PIDS = 1500
VOCABULARY = 400
SUPPORT_SIZES = (1, 2, 4)
WARM_UP_ROUNDS = 2


def composed(*overrides: str) -> Any:
    """Return a training config of the synthetic data set."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("train", [*overrides, "paths.output_dir=unused"])


def make_captions(
    number: int, generator: torch.Generator, lengths: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return token ids and their validity, for captions of some least and most tokens."""
    least, most = lengths
    valid = torch.arange(most) < torch.randint(least, most + 1, (number, 1), generator=generator)
    ids = torch.randint(1, VOCABULARY, valid.shape, generator=generator)
    return ids * valid, valid


def make_batch(
    size: int, image_size: Sequence[int], slots: int, lengths: tuple[int, int] = LENGTHS
) -> PairBatch:
    """Return random pairs, four of each identity, with support sets of as many slots as asked for.

    No two anchors share a support image, so none is saved.
    """
    generator = torch.Generator().manual_seed(0)
    token_ids, valid = make_captions(size, generator, lengths)
    label = torch.arange(size) // PAIRS_PER_ID
    support = None
    if slots:
        number = size * slots
        which = torch.arange(number).view(size, slots)
        images = torch.randn(number, 3, *image_size, generator=generator)
        captions = make_captions(number, generator, lengths)
        support = SupportBatch(images, which, *captions, which)
    return PairBatch(
        images=torch.randn(size, 3, *image_size, generator=generator),
        token_ids=token_ids,
        valid=valid,
        label=label,
        pid=label,
        image_id=torch.arange(size),
        index=torch.arange(size),
        support=support,
    )


def make_teacher(source: str) -> RetrievalModule:
    """Return a teacher with random weights."""
    cfg = composed("model=lcr2s", f"model.teacher.source={source}")
    build = instantiate(cfg.model.teacher, _convert_="all")
    return build(num_train_pids=NUM_PIDS, **build_encoders(cfg))


def make_student(teacher: torch.nn.Module) -> RetrievalModule:
    """Return a student of a teacher, or of a table of what it says."""
    cfg = composed("model=lcr2s")
    student = cast(Lcr2s, build_model(cfg, build_encoders(cfg), NUM_PIDS))
    student.set_teacher(teacher)
    return student


def step_of(model: RetrievalModule, batch: PairBatch) -> Callable[[], None]:
    """Return what takes one training step."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        torch.stack(list(model.training_terms(batch, 0).terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def build_variants(size: int, image_size: list[int] | None = None) -> dict[str, Callable[[], None]]:
    """Return what takes a step, by name."""
    cfg = composed(f"model={BASELINE}")
    image_size = image_size or list(cfg.dataset.image_size)
    plain = make_batch(size, image_size, 0)
    baseline = build_model(cfg, build_encoders(cfg), NUM_PIDS)
    steps = {BASELINE: step_of(baseline, plain)}
    for source in ("batch", "memory"):
        steps[f"teacher, {source}"] = step_of(make_teacher(source), plain)
    for slots in SUPPORT_SIZES:
        steps[f"teacher, dataset {slots} + {slots}"] = step_of(
            make_teacher("dataset"), make_batch(size, image_size, slots)
        )
    width = baseline.feature_dim
    table = TargetTable(torch.randn(size, width), torch.randn(size, width))
    steps["student, targets once"] = step_of(make_student(table), plain)
    with_supports = make_batch(size, image_size, 2)
    steps["student, each step, dataset 2 + 2"] = step_of(
        make_student(make_teacher("dataset")), with_supports
    )
    return steps


def run_rounds(
    variants: dict[str, Callable[[], None]], rounds: int, console: Console
) -> dict[str, list[float]]:
    """Let the variants take turns; another one begins each round. The warm-up is not kept."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    with console.status("") as status:
        for number in range(-WARM_UP_ROUNDS, rounds):
            status.update("warm-up" if number < 0 else f"round {number + 1} of {rounds}")
            first = number % len(names)
            for name in names[first:] + names[:first]:
                began = time.perf_counter()
                variants[name]()
                if number >= 0:
                    seconds[name].append(time.perf_counter() - began)
    return seconds


def summarise(seconds: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Return each variant's medians over the rounds, and its steps in baseline steps."""
    summary = {}
    for name, own in seconds.items():
        ratios = [mine / base for mine, base in zip(own, seconds[BASELINE], strict=True)]
        summary[name] = {
            "seconds": statistics.median(own),
            "baseline_steps": statistics.median(ratios),
            "range": [min(ratios), max(ratios)],
            "all_seconds": own,
        }
    return summary


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="steps of each variant")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs a step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("runs/bench/lcr2s_step.json"))
    arguments = parser.parse_args()
    if arguments.batch_size % PAIRS_PER_ID or arguments.rounds < 1:
        parser.error(f"expected a batch size that {PAIRS_PER_ID} divides, and one round or more")
    silence_expected_warnings()
    warnings.filterwarnings("ignore", message="You are trying to `self.log")
    torch.set_num_threads(arguments.threads)
    console = Console(highlight=False)
    summary = summarise(run_rounds(build_variants(arguments.batch_size), arguments.rounds, console))
    table = Table(title="LCR2S, one training step", title_justify="left", caption_justify="left")
    table.caption = (
        f"{device_name(torch.device('cpu'))}, load {LOAD:.1f} before; medians of "
        f"{arguments.rounds} rounds, batch {arguments.batch_size}, float32"
    )
    for name in ("step", "baseline steps", "lowest, highest", "seconds"):
        table.add_column(name, justify="left" if name == "step" else "right", no_wrap=True)
    for name, found in summary.items():
        ratios = "{:.2f}, {:.2f}".format(*found["range"])
        table.add_row(name, f"{found['baseline_steps']:.2f}", ratios, f"{found['seconds']:.3f}")
    settings = {name: str(value) for name, value in vars(arguments).items()}
    show_and_write(arguments.output, table, settings=settings, variants=summary)


if __name__ == "__main__":
    main()
