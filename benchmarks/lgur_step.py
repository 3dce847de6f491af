"""Time and memory of LGUR's training step at its published size, against a plain reference.

    make bench ARGS="--rounds 10"

Forward, backward and optimiser on random weights and one random batch. The variants take turns in
one process, a step each a round, so that whatever else the machine does hits them all: compare the
ratios. First their losses and gradients are compared; where they differ there is no report.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from reference import ReferenceLgur
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tireid import launch
from tireid.callbacks.run_record import peak_memory_mib, write_json
from tireid.losses import ranking
from tireid.methods.lgur import Lgur
from tireid.structures import PairBatch

REFERENCE, PLAIN, CACHED = VARIANTS = ["reference", "tireid", "tireid, text cache"]
PHASES = ["image encoder", "text encoder", "head, losses", "backward", "optimiser"]
TOLERANCE = 1e-5  # of the losses, relative
WARM_UP = 2
MEMORY_STEPS = 3
PUBLISHED = [
    "experiment=lgur_cuhk_pedes",
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


def build_model(arguments: argparse.Namespace) -> Lgur:
    """Return LGUR as its published config builds it, with random weights."""
    with initialize_config_dir(launch.conf_dir(), version_base="1.3"):
        cfg = compose("train", PUBLISHED + (QUICK if arguments.quick else []))
    torch.manual_seed(0)
    return launch.build_model(cfg, launch.build_encoders(cfg), arguments.ids)


def make_batch(model: Lgur, arguments: argparse.Namespace) -> PairBatch:
    """Return random pairs of different people, with captions of different lengths."""
    generator = torch.Generator().manual_seed(0)
    size, (shortest, longest) = arguments.batch_size, arguments.lengths
    lengths = torch.randint(shortest, longest + 1, (size,), generator=generator)
    valid = torch.arange(int(lengths.max())) < lengths[:, None]
    vocab_size = model.text_encoder.embedding.bert.config.vocab_size
    labels = torch.randperm(arguments.ids, generator=generator)[:size]
    return PairBatch(
        images=torch.randn(size, 3, *model.image_encoder.image_size, generator=generator),
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
        loss: The forward pass.
        optimizer: Over the trained parameters.
    """

    def __init__(
        self, network: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}

    def step(self) -> None:
        """Take one training step and keep its times."""
        encoders = {"image encoder": self.network.image_encoder}
        encoders["text encoder"] = self.network.text_encoder
        spent: dict[str, float] = {}
        handles = []
        for name, encoder in encoders.items():

            def start(*_: Any, name: str = name) -> None:
                spent[name] = -time.perf_counter()

            def stop(*_: Any, name: str = name) -> None:
                spent[name] += time.perf_counter()

            handles += [
                encoder.register_forward_pre_hook(start),
                encoder.register_forward_hook(stop),
            ]
        began = time.perf_counter()
        loss = self.loss()
        forward_done = time.perf_counter()
        for handle in handles:
            handle.remove()
        loss.backward()
        backward_done = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad()
        spent["head, losses"] = forward_done - began - sum(spent.values())
        spent["backward"] = backward_done - forward_done
        spent["optimiser"] = time.perf_counter() - backward_done
        for phase, seconds in spent.items():
            self.seconds[phase].append(seconds)

    def forget(self) -> None:
        """Drop the times so far."""
        for seconds in self.seconds.values():
            seconds.clear()

    @property
    def totals(self) -> list[float]:
        """Seconds of each step."""
        return [sum(step) for step in zip(*self.seconds.values(), strict=True)]


def build_variants(model: Lgur, batch: PairBatch, names: list[str]) -> dict[str, Variant]:
    """Return the named variants; those of tireid share one model and its optimiser."""
    variants = {}
    if REFERENCE in names:
        reference = ReferenceLgur(model)
        trained = [p for p in reference.parameters() if p.requires_grad]
        variants[REFERENCE] = Variant(
            reference, lambda: reference(batch), torch.optim.Adam(trained, lr=1e-4)
        )
    groups = [
        {"params": trained, "lr": model.learning_rates[name]}
        for name, group in model.parameter_groups().items()
        if (trained := [p for p in group if p.requires_grad])
    ]
    optimizer = model.build_optimizer(groups)
    if PLAIN in names:
        variants[PLAIN] = Variant(model, lambda: model.training_step(batch, 0), optimizer)
    if CACHED in names:
        with torch.no_grad():
            words = model.text_encoder.embedding(batch.token_ids, batch.valid).local
        cached = batch._replace(words=words)
        variants[CACHED] = Variant(model, lambda: model.training_step(cached, 0), optimizer)
    return variants


def compare(model: Lgur, variants: dict[str, Variant], batch: PairBatch) -> float:
    """Return how far tireid's losses are from the reference's: the largest relative difference.

    Same weights and triplets; dropout and stochastic depth off.

    Raises:
        ValueError: If that is more than `TOLERANCE`.
    """
    reference = variants[REFERENCE].network
    reference.eval()
    model.eval()
    differences = []
    for name in (PLAIN, CACHED):
        triplets: list[ranking.Triplets] = []
        with patch.object(ranking, "mine_semi_hard", _recorded(triplets)), torch.no_grad():
            loss = float(variants[name].loss())
            expected = float(reference(batch, triplets))
        differences.append(abs(loss - expected) / abs(expected))
    reference.train()
    model.train()
    if not max(differences) <= TOLERANCE:
        raise ValueError(
            f"loss: expected the reference's within {TOLERANCE:g}, relatively, got "
            f"{max(differences):.1e} off: not the same arithmetic, so its speed says nothing"
        )
    return max(differences)


def _recorded(triplets: list[ranking.Triplets]) -> Callable[..., ranking.Triplets]:
    original = ranking.mine_semi_hard

    def mine(*arguments: Any, **settings: Any) -> ranking.Triplets:
        triplets.append(original(*arguments, **settings))
        return triplets[-1]

    return mine
