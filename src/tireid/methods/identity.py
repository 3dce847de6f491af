"""Identity heads over all training identities, or over a random share of them in each step.

With `identity=sampled` a step scores the classes of its global batch and a random share of the
others, and only their rows get gradients and optimiser steps. So neither logits nor gradients nor
the time of a step grow with the number of identities; the weights and the optimiser's moments do.

Source:
    An et al., "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition
    CNNs by Partial FC", CVPR 2022: positives first, then random negatives. Departs from it by the
    weights of the negatives, see `sampled_identity_loss`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from tireid.losses.draws import keyed_uniform
from tireid.losses.gather import gather_with_gradient
from tireid.losses.identity import identity_loss, sampled_identity_loss
from tireid.methods.base import classifies
from tireid.structures import Features, Ids, Scalar

_STREAM = 15_485_863  # added to the seed, so that other draws of a step are independent


class Sample(NamedTuple):
    """The classes of one step.

    Attributes:
        labels: Column of each pair's class among them.
        weights: How many classes each of them stands for.
        rows: Their parameters by name, in the layout of the whole.
    """

    labels: Ids
    weights: Float[Tensor, " sampled"]
    rows: dict[str, nn.Parameter]


class SampledClasses(nn.Module):
    """The rows of a classifier that a step trains, in place of the whole, which is frozen.

    All ranks draw the same classes, by the seed and the step alone.

    Args:
        whole: The parameters of all classes by name, each with its axis of classes.
        share: Share of the classes in a step, in (0, 1]; at least those of the global batch.
        seed: Key of the draws.

    Raises:
        ValueError: If the share is out of its range.
    """

    rows: nn.ParameterDict

    def __init__(
        self, whole: Mapping[str, tuple[nn.Parameter, int]], *, share: float, seed: int
    ) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"identity_share: expected a share in (0, 1], got {share}")
        parameter, axis = next(iter(whole.values()))
        self._whole = dict(whole)
        self._classes = parameter.shape[axis]
        self._count = max(1, round(share * self._classes))
        self._seed = seed
        self._index: Int[Tensor, " sampled"] | None = None
        self._optimizer: Optimizer | None = None
        self._open: int | None = None  # step whose update has not come yet
        self.rows = nn.ParameterDict()
        for name, (parameter, axis) in whole.items():
            parameter.requires_grad_(False)
            first = parameter.detach().narrow(axis, 0, self._count)
            self.rows[name] = nn.Parameter(first.clone())

    def follow(self, optimizer: Optimizer) -> None:
        """Let an optimiser over the rows write each class's weights and moments back.

        Args:
            optimizer: Has the rows among its parameters. What it keeps of a row, in the shape of
                the rows, is kept for all classes beside it, so that its state dict holds it.
        """
        for group in optimizer.param_groups:
            own = [n for n, rows in self.rows.items() if any(rows is p for p in group["params"])]
            group["params"] += [self._whole[name][0] for name in own]
        self._optimizer = optimizer
        optimizer.register_step_post_hook(self._write_back)

    @torch.no_grad()
    def draw(self, labels: Ids, step: int) -> Sample:
        """Draw the classes of a step and load their rows.

        Args:
            labels: Class of each pair of this process.
            step: Number of the optimiser's step.

        Raises:
            ValueError: If the share is too small for the global batch, or the step has had its
                draw.
        """
        if self._optimizer is not None and self._open == step:
            raise ValueError(
                "trainer.accumulate_grad_batches: expected 1 with model.identity=sampled, whose "
                "classes are those of one batch, got more; set model.identity=exact"
            )
        self._open = step
        everyone = gather_with_gradient(labels).long()
        if self._count < (least := min(len(everyone), self._classes)):
            raise ValueError(
                f"model.identity_share: expected at least {least / self._classes:.3g}, so that the "
                f"{least} classes that a batch may have fit among the {self._classes}, got "
                f"{self._count} classes; raise it, or set model.identity=exact"
            )
        size = {"number": 1, "rows": 1, "columns": self._classes, "device": labels.device}
        scores = keyed_uniform(self._seed + _STREAM, step, **size)[0, 0]
        scores = scores.index_fill(0, everyone, 2.0)
        self._index = scores.topk(self._count).indices.sort().values
        in_batch = scores[self._index] > 1
        others = self._classes - in_batch.sum()
        drawn = (self._count - in_batch.sum()).clamp_min(1)
        weights = torch.where(in_batch, 1.0, others / drawn)
        self._load(self._index)
        return Sample(
            torch.searchsorted(self._index, labels.long()), weights, dict(self.rows.items())
        )

    def _load(self, index: Tensor) -> None:
        for name, rows in self.rows.items():
            whole, axis = self._whole[name]
            rows.copy_(whole.index_select(axis, index))
            if self._optimizer is None:
                continue
            state: dict[Any, dict[str, Any]] = self._optimizer.state
            for key, moments in state.get(whole, {}).items():
                if _has_shape(moments, whole):
                    state[rows][key].copy_(moments.index_select(axis, index))

    @torch.no_grad()
    def _write_back(self, optimizer: Optimizer, *_: Any) -> None:
        if self._index is None or self._open is None:
            return
        self._open = None
        for name, rows in self.rows.items():
            whole, axis = self._whole[name]
            whole.index_copy_(axis, self._index, rows)
            state: dict[Any, dict[str, Any]] = optimizer.state
            for key, value in state[rows].items():
                if not _has_shape(value, rows):
                    state[whole][key] = value
                    continue
                if key not in state[whole]:
                    state[whole][key] = torch.zeros_like(whole)
                state[whole][key].index_copy_(axis, self._index, value)


def _has_shape(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def sample_classes(
    identity: str,
    whole: Mapping[str, tuple[nn.Parameter, int]],
    *,
    share: float,
    seed: int,
    alignment: nn.Module,
) -> SampledClasses | None:
    """Return what draws the classes of each step; None where all are scored.

    Args:
        identity: `exact` or `sampled`.
        whole: As in `SampledClasses`.
        share: As in `SampledClasses`.
        seed: As in `SampledClasses`.
        alignment: The method's alignment loss.

    Raises:
        ValueError: If `identity` is another word, or the alignment loss needs all classes.
    """
    if identity not in ("exact", "sampled"):
        raise ValueError(f"identity: expected exact or sampled, got {identity!r}")
    if identity == "exact":
        return None
    if classifies(alignment):
        raise ValueError(
            f"model.identity: expected exact with {type(alignment).__name__}, which scores all "
            "classes, got sampled"
        )
    return SampledClasses(whole, share=share, seed=seed)


def sample_linear(
    classifier: nn.Linear,
    identity: str,
    identity_weight: float,
    share: float,
    seed: int,
    alignment: nn.Module,
) -> SampledClasses | None:
    """Return what draws the classes of a linear classifier in each step, as `sample_classes`.

    Args:
        classifier: Scores of all classes.
        identity: As in `sample_classes`.
        identity_weight: Weight of the identity loss; with 0 nothing is drawn.
        share: As in `SampledClasses`.
        seed: As in `SampledClasses`.
        alignment: As in `sample_classes`.

    Raises:
        ValueError: As `sample_classes`.
    """
    whole = {"weight": (classifier.weight, 0), "bias": (classifier.bias, 0)}
    identity = identity if identity_weight else "exact"
    return sample_classes(identity, whole, share=share, seed=seed, alignment=alignment)


def identity_terms(
    classifier: nn.Linear,
    sampled: SampledClasses | None,
    sides: tuple[Features, Features],
    labels: Ids,
    *,
    step: int,
    smoothing: float,
) -> Scalar:
    """Return the sum of the identity losses of two modalities, which share a classifier.

    Args:
        classifier: Scores of all classes.
        sampled: What draws the classes of each step; None: all are scored.
        sides: Features of images and of texts.
        labels: Class of each pair.
        step: Number of the optimiser's step.
        smoothing: See `identity_loss`.
    """
    if sampled is None:
        loss = partial(identity_loss, labels=labels, smoothing=smoothing)
        return loss(classifier(sides[0])) + loss(classifier(sides[1]))
    columns, weights, rows = sampled.draw(labels, step)
    images, texts = (F.linear(side, rows["weight"], rows.get("bias")) for side in sides)
    loss = partial(sampled_identity_loss, labels=columns, weights=weights, smoothing=smoothing)
    return loss(images) + loss(texts)
