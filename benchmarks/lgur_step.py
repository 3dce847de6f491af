"""Time and memory of LGUR's training step at its published size, against a plain reference.

    make bench-step ARGS="--rounds 10"

Forward, backward and optimiser on random weights and one random batch. The variants take turns in
one process, a step each a round, so that whatever else the machine does hits them all: compare the
ratios. First their losses are compared; where they differ there is no report.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from measured import LOAD, show_and_write
from reference import ReferenceLgur
from tireid.console import silence_expected_warnings
from tireid.files import conf_dir
from tireid.inference import build
from tireid.losses import ranking
from tireid.methods.lgur import Lgur
from tireid.runs.environment import device_name, peak_memory_mib
from tireid.structures import PairBatch

REFERENCE, PLAIN, CACHED, BF16 = VARIANTS = [
    "reference",
    "tireid",
    "tireid, text cache",
    "tireid, text cache, bf16",
]
PHASES = ["image encoder", "text encoder", "head, losses", "backward", "optimiser"]
TOLERANCE = 1e-5  # of the losses, relative
# The least arithmetic of a step: DeiT-small, 11 of its 12 blocks, forward and backward, an image.
FLOOR_GFLOP = 182 / 8
IDS, QUICK_IDS = 11_000, 50  # training identities
LENGTHS = (16, 44)  # of the captions, in word pieces
WARM_UP_ROUNDS = 2
MEMORY_STEPS = 3
PUBLISHED = [
    "experiment=lgur",
    "image_encoder.pretrained=false",
    "text_encoder.pretrained=false",
    "paths.output_dir=unused",
]
QUICK = [
    "dataset.image_size=[64,32]",
    "image_encoder.module.dim=64",
    "image_encoder.module.depth=3",
    "image_encoder.module.trunk_depth=2",
    "image_encoder.module.heads=2",
    "text_encoder.module.hidden=64",
    "text_encoder.module.embedding.dim=64",
    "text_encoder.module.embedding.depth=2",
    "text_encoder.module.embedding.heads=2",
    "text_encoder.module.embedding.vocab_size=1000",
    "model.head.dictionary_size=40",
    "model.head.prototype_head_dim=80",
]


def build_model(quick: bool) -> Lgur:
    """Return LGUR as its published config builds it, or a tiny one, with random weights."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", PUBLISHED + (QUICK if quick else []))
    torch.manual_seed(0)
    ids = QUICK_IDS if quick else IDS
    model = cast(Lgur, build.build_model(cfg, build.build_encoders(cfg), ids))
    with torch.no_grad():  # else all logits are near 0, and the losses compared nearly constant
        model.classifier_weight.mul_(20)
    return model


def make_batch(model: Lgur, size: int) -> PairBatch:
    """Return random pairs of different people, with captions of different lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(LENGTHS[0], LENGTHS[1] + 1, (size,), generator=generator)
    valid = torch.arange(int(lengths.max())) < lengths[:, None]
    encoders: Any = model
    vocab_size = encoders.text_encoder.embedding.bert.config.vocab_size
    labels = torch.randperm(model.classifier_weight.shape[1], generator=generator)[:size]
    return PairBatch(
        images=torch.randn(size, 3, *encoders.image_encoder.image_size, generator=generator),
        token_ids=torch.randint(1, vocab_size, valid.shape, generator=generator) * valid,
        valid=valid,
        label=labels,
        pid=labels,
        image_id=torch.arange(size),
        index=torch.arange(size),
    )


class Variant:
    """One way to compute the step, and its seconds by phase, one number a step.

    Args:
        network: Has `image_encoder` and `text_encoder`.
        loss: The forward pass; the reference's takes triplets, and draws them itself without.
        optimizer: Over the trained parameters.
    """

    def __init__(
        self, network: Any, loss: Callable[..., Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}

    def step(self) -> None:
        """Take one training step and keep its times."""
        spent: dict[str, float] = {}
        handles = [
            *_timed(self.network.image_encoder, "image encoder", spent),
            *_timed(self.network.text_encoder, "text encoder", spent),
        ]
        began = time.perf_counter()
        loss = self.loss()
        forward_done = time.perf_counter()
        loss.backward()
        backward_done = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad()
        spent["optimiser"] = time.perf_counter() - backward_done
        for handle in handles:
            handle.remove()
        encoders = spent["image encoder"] + spent["text encoder"]
        spent["head, losses"] = forward_done - began - encoders
        spent["backward"] = backward_done - forward_done
        for phase, seconds in self.seconds.items():
            seconds.append(spent[phase])

    @property
    def totals(self) -> list[float]:
        """Seconds of each step."""
        return [sum(phases) for phases in zip(*self.seconds.values(), strict=True)]


def _timed(module: nn.Module, name: str, spent: dict[str, float]) -> list[Any]:
    """Let `module` write the seconds of its next forward pass into `spent`."""

    def start(*_: Any) -> None:
        spent[name] = -time.perf_counter()

    def stop(*_: Any) -> None:
        spent[name] += time.perf_counter()

    return [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]


def build_variants(model: Lgur, batch: PairBatch, names: Sequence[str]) -> dict[str, Variant]:
    """Return the named variants; those of tireid share the model and its optimiser."""
    variants: dict[str, Variant] = {}
    if REFERENCE in names:
        reference = ReferenceLgur(model)
        trained = [p for p in reference.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=1e-4)
        variants[REFERENCE] = Variant(
            reference, lambda triplets=None: reference(batch, triplets), optimizer
        )
    if {PLAIN, CACHED, BF16} & set(names):
        groups = [
            {"params": [p for p in group if p.requires_grad], "lr": model.learning_rates[name]}
            for name, group in model.parameter_groups().items()
        ]
        trained: Any = model  # its optimiser is given
        optimizer = trained.build_optimizer(groups)
        with torch.no_grad():  # what a run reads from disk
            words = trained.text_encoder.embedding(batch.token_ids, batch.valid).local
        cached = batch._replace(words=words)
        for name, given in {PLAIN: batch, CACHED: cached, BF16: cached}.items():

            def loss(given: PairBatch = given, *, half: bool = name == BF16) -> Tensor:
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    return _loss(model, given)

            if name in names:
                variants[name] = Variant(model, loss, optimizer)
    return variants


def _loss(model: Lgur, batch: PairBatch) -> torch.Tensor:
    return torch.stack(list(model.training_terms(batch, 0).terms.values())).sum()


@contextmanager
def recorded_triplets() -> Iterator[list[ranking.Triplets]]:
    """Collect the negatives that tireid draws meanwhile."""
    triplets: list[ranking.Triplets] = []
    draw = ranking.mine_semi_hard

    def mine(*arguments: Any, **settings: Any) -> ranking.Triplets:
        triplets.append(draw(*arguments, **settings))
        return triplets[-1]

    with patch.object(ranking, "mine_semi_hard", mine):
        yield triplets


def compare(model: Lgur, variants: dict[str, Variant]) -> float:
    """Return how far tireid's losses are from the reference's: the largest relative difference.

    Same weights and triplets; dropout and stochastic depth off.

    Raises:
        ValueError: If that is more than `TOLERANCE`.
    """
    reference = variants[REFERENCE]
    reference.network.eval()
    model.eval()
    differences = []
    for name in (PLAIN, CACHED):
        with torch.no_grad(), recorded_triplets() as triplets:
            loss = float(variants[name].loss())
            expected = float(reference.loss(triplets))
        differences.append(abs(loss - expected) / abs(expected))
    reference.network.train()
    model.train()
    if not max(differences) <= TOLERANCE:
        raise ValueError(
            f"loss: expected the reference's within {TOLERANCE:g}, relatively, got "
            f"{max(differences):.1e} off: not the same arithmetic, so its speed says nothing"
        )
    return max(differences)


def floor_seconds(batch_size: int, dtype: torch.dtype) -> float:
    """Return the seconds of a step's least arithmetic at the measured rate of matrix products."""
    tokens, width = torch.randn(1544, 384, dtype=dtype), torch.randn(384, 1536, dtype=dtype)
    seconds: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        torch.mm(tokens, width)
        seconds.append(time.perf_counter() - began)
    rate = 2 * tokens.numel() * width.shape[1] / statistics.median(seconds)
    return FLOOR_GFLOP * 1e9 * batch_size / rate


def run_rounds(variants: dict[str, Variant], rounds: int, console: Console) -> None:
    """Let the variants take turns; another one begins each round. The warm-up is not kept."""
    names = list(variants)
    with console.status("") as status:
        for number in range(-WARM_UP_ROUNDS, rounds):
            status.update("warm-up" if number < 0 else f"round {number + 1} of {rounds}")
            if number == 0:
                for variant in variants.values():
                    for seconds in variant.seconds.values():
                        seconds.clear()
            first = number % len(names)
            for name in names[first:] + names[:first]:
                variants[name].step()


def peak_memory(name: str, arguments: argparse.Namespace) -> float:
    """Return the peak resident memory, in MiB, of a process that does nothing but this variant.

    The resident set, since torch does not count what it allocates on a CPU; a process each, since
    the peak of a process never falls.
    """
    command = [sys.executable, __file__, "--memory-of", name]
    command += ["--batch-size", str(arguments.batch_size), "--threads", str(arguments.threads)]
    done = subprocess.run(  # noqa: S603 -- fixed words
        command + ["--quick"] * arguments.quick, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def measure_memory(name: str, arguments: argparse.Namespace) -> None:
    """Write what `peak_memory` reads."""
    model = build_model(arguments.quick).train()
    variants = build_variants(model, make_batch(model, arguments.batch_size), [name])
    del model
    for _ in range(MEMORY_STEPS):
        variants[name].step()
    sys.stdout.write(json.dumps(peak_memory_mib(torch.device("cpu"))))


def summarise(variants: dict[str, Variant], memory: dict[str, float], batch_size: int) -> Any:
    """Return each variant's medians over the rounds, and its ratios to the reference."""
    reference = variants[REFERENCE].totals
    dtypes = {BF16: torch.bfloat16}
    summary = {}
    for name, variant in variants.items():
        ratios = [theirs / ours for theirs, ours in zip(reference, variant.totals, strict=True)]
        step = statistics.median(variant.totals)
        summary[name] = {
            "seconds": step,
            "images_per_second": batch_size / step,
            "speed_ratio": statistics.median(ratios),
            "speed_ratio_range": [min(ratios), max(ratios)],
            "phases": {p: statistics.median(s) for p, s in variant.seconds.items()},
            "peak_memory_mib": memory[name],
            "memory_ratio": memory[name] / memory[REFERENCE],
            "floors": step / floor_seconds(batch_size, dtypes.get(name, torch.float32)),
            "all_seconds": variant.totals,
        }
    return summary


def make_table(summary: dict[str, Any], title: str, caption: str) -> Table:
    """Return the summary as a table, a column a variant."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("median over the rounds", justify="left")
    for name in summary:
        table.add_column(name, justify="right")
    found = summary.values()
    table.add_row("images a second", *(f"{v['images_per_second']:.2f}" for v in found))
    table.add_row("  times the reference's", *(f"{v['speed_ratio']:.2f}" for v in found))
    table.add_row(
        "  lowest, highest round",
        *("{:.2f}, {:.2f}".format(*v["speed_ratio_range"]) for v in found),
    )
    table.add_row("step, in its floor", *(f"{v['floors']:.1f}" for v in found))
    table.add_row("step, seconds", *(f"{v['seconds']:.3f}" for v in found))
    for phase in PHASES:
        table.add_row(f"  {phase}", *(f"{v['phases'][phase]:.3f}" for v in found))
    table.add_row("peak memory, MiB", *(f"{v['peak_memory_mib']:.0f}" for v in found))
    table.add_row("  times the reference's", *(f"{v['memory_ratio']:.2f}" for v in found))
    return table


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="steps of each variant")
    parser.add_argument("--batch-size", type=int, default=8, help="pairs a step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="tiny model: only shows that it runs")
    parser.add_argument("--output", type=Path, default=Path("runs/bench/lgur_step.json"))
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Compare, measure, show and write."""
    arguments = parse_arguments()
    silence_expected_warnings()
    warnings.filterwarnings("ignore", message="You are trying to `self.log")
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        return measure_memory(arguments.memory_of, arguments)
    memory = {name: peak_memory(name, arguments) for name in VARIANTS}
    model = build_model(arguments.quick).train()
    batch = make_batch(model, arguments.batch_size)
    variants = build_variants(model, batch, VARIANTS)
    difference = compare(model, variants)
    run_rounds(variants, arguments.rounds, Console(highlight=False))

    summary = summarise(variants, memory, arguments.batch_size)
    lengths = batch.valid.sum(dim=1).tolist()
    height, width = batch.images.shape[2:]
    title = "LGUR, one training step" + (", tiny sizes: no measurement" * arguments.quick)
    caption = (
        f"{device_name(torch.device('cpu'))}, load {LOAD:.1f} before; {arguments.rounds} rounds, "
        f"batch {arguments.batch_size}, images {height}x{width}, captions of {min(lengths)} to "
        f"{max(lengths)} word pieces, {model.classifier_weight.shape[1]:,} identities, float32 but "
        "for bf16. Floor: DeiT-small's products, forward and backward, at the rate of one alone. "
        f"Losses differ by {difference:.0e}, relatively. "
        "Memory: resident peak of a process that does nothing else."
    )
    settings = {key: value for key, value in vars(arguments).items() if key != "memory_of"}
    show_and_write(
        arguments.output,
        make_table(summary, title, caption),
        settings=settings | {"output": str(arguments.output)},
        caption_lengths=lengths,
        loss_difference=difference,
        variants=summary,
    )
    return None


if __name__ == "__main__":
    main()
