"""Training steps at published size, on any device and in any precision, for `gpu.py`."""

import contextlib
from dataclasses import dataclass
from typing import Any, cast

import torch
from hydra.utils import instantiate
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor

from lcr2s_step import composed, make_batch
from tireid.inference.build import build_encoders, build_model
from tireid.methods.base import RetrievalModule
from tireid.methods.lcr2s import Lcr2s
from tireid.methods.lcr2s.targets import TargetTable
from tireid.structures import PairBatch, SupportBatch
from tireid.training.build import compile_model

IDS, TINY_IDS = 11_003, 50  # training identities; CUHK-PEDES has the first number
LENGTHS = (16, 44)  # of the captions, in word pieces
TINY = ("batch_size=8", "dataset.image_size=[64,32]", "text_encoder=bert_bilstm_tiny")
LARGE = ("image_encoder.pretrained=false", "text_encoder.pretrained=false")


@dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        name: Name in the table.
        experiment: Overrides that choose its published config.
        method: The same method with small encoders, for tiny sizes.
        part: "method", or of LCR2S "teacher" or "student".
        supports: Support images and captions of each pair; 0: none.
        cached: Whether the frozen BERT's token features come with the batch.
        compiled: Whether to time it compiled, too, which takes a minute more.
    """

    name: str
    experiment: str
    method: str
    part: str = "method"
    supports: int = 0
    cached: bool = True
    compiled: bool = False

    def config(self, tiny: bool) -> Any:
        """Return its training config, at published size or tiny."""
        if tiny:
            return composed(f"model={self.method}", *TINY)
        return composed(*self.experiment.split(), *LARGE)


@dataclass(frozen=True)
class Precision:
    """A precision of the step: matrix products, autocast, and whether it is compiled."""

    name: str
    products: str = "highest"
    autocast: bool = False
    compiled: bool = False


PRECISIONS = (
    Precision("float32"),
    Precision("TF32", "high"),
    Precision("bf16", "high", autocast=True),
    Precision("bf16, compiled", "high", autocast=True, compiled=True),
)
STEPS = (
    Step("baseline", "experiment=lgur model=baseline", "baseline", compiled=True),
    Step("LGUR", "experiment=lgur", "lgur", compiled=True),
    Step("LGUR, BERT in every step", "experiment=lgur", "lgur", cached=False),
    Step("LCR2S teacher, 2 + 2 supports", "experiment=lcr2s", "lcr2s_plain", "teacher", 2),
    Step("LCR2S student, each_step", "experiment=lcr2s", "lcr2s_plain", "student", 2),
    Step("LCR2S student, once", "experiment=lcr2s", "lcr2s_plain", "student"),
)


class TrainingStep:
    """A model with its batch and optimiser on a device; call it to take one training step.

    Args:
        model: The method, in training mode.
        batch: Its training batch.
        precision: How to compute.
    """

    def __init__(self, model: RetrievalModule, batch: PairBatch, precision: Precision) -> None:
        self.model = model
        self.batch = batch
        self.precision = precision
        self.batch_size = len(batch.pid)
        build: Any = model.build_optimizer
        self.optimizer = build(
            [
                {"params": [p for p in group if p.requires_grad], "lr": model.learning_rates[name]}
                for name, group in model.parameter_groups().items()
            ]
        )
        self.number = 0

    def __call__(self) -> Tensor:
        """Take the step: forward, backward, optimiser; return the loss on the device."""
        torch.set_float32_matmul_precision(self.precision.products)
        torch.backends.cudnn.allow_tf32 = self.precision.products != "highest"
        with self._autocast():
            terms = self.model.training_terms(self.batch, self.number).terms
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.number += 1
        return loss.detach()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if not self.precision.autocast:
            return contextlib.nullcontext()
        return torch.autocast(self.batch.images.device.type, torch.bfloat16)


def training_step(
    step: Step, precision: Precision, device: torch.device, *, tiny: bool
) -> TrainingStep:
    """Build a training step with random weights and one random batch on a device."""
    cfg = step.config(tiny)
    torch.manual_seed(0)
    model = _build(step, cfg, TINY_IDS if tiny else IDS).to(device).train()
    batch = make_batch(cfg.batch_size, tuple(cfg.dataset.image_size), step.supports, LENGTHS)
    batch = _with_token_features(batch, model, device) if step.cached else batch
    batch = move_data_to_device(batch, device)
    if precision.compiled:
        compile_model(model)
    return TrainingStep(model, batch, precision)


def _build(step: Step, cfg: Any, ids: int) -> RetrievalModule:
    if step.part == "method":
        return build_model(cfg, build_encoders(cfg), ids)
    build = instantiate(cfg.model.teacher, _convert_="all")
    teacher: RetrievalModule = build(num_train_pids=ids, **build_encoders(cfg))
    if step.part == "teacher":
        return teacher
    student = cast(Lcr2s, build_model(cfg, build_encoders(cfg), ids))
    if step.supports:
        student.set_teacher(teacher)
    else:
        size, width = cfg.batch_size, student.feature_dim
        student.set_teacher(TargetTable(torch.randn(size, width), torch.randn(size, width)))
    return student


@torch.no_grad()
def _with_token_features(
    batch: PairBatch, model: RetrievalModule, device: torch.device
) -> PairBatch:
    """Add the token features of the frozen BERT, which a run reads from disk."""
    encoders: Any = getattr(model, "dual", model)  # a method may be built around another
    embedding = encoders.text_encoder.embedding

    def words(captions: PairBatch | SupportBatch) -> Tensor:
        return embedding(captions.token_ids.to(device), captions.valid.to(device)).local

    support = batch.support
    support = None if support is None else support._replace(words=words(support))
    return batch._replace(words=words(batch), support=support)
