"""State and synchronisation of a retrieval evaluation; the arithmetic is the caller's."""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from tireid.structures import ImageBatch, TextBatch

_SIDES = ("text", "image")
_States = list[Tensor] | Tensor  # torchmetrics turns lists into tensors when it synchronises


class RetrievalMetrics(Metric):
    """Collects both sides of a split over batches and processes, then has them evaluated.

    A distributed sampler repeats samples to fill its last batch. Each `index` is kept once, so the
    figures of several processes are those of one.

    Args:
        evaluate: Called as `evaluate(text_embeddings, image_embeddings, text_pids, image_pids,
            paired=paired)` with everything in the order of the indices; `paired` holds -1 where a
            text's own image was not collected. `tireid.retrieval.evaluate_embeddings` fits.
        kwargs: For `torchmetrics.Metric`. `compute_on_cpu=True` spares GPU memory, but its states
            cannot be gathered by NCCL.

    Raises:
        ValueError: By `compute`, if no text or no image was collected. With several processes each
            of them must have seen at least one of both.
    """

    full_state_update = False
    text_embeddings: _States
    text_pids: _States
    text_index: _States
    text_image_index: _States
    image_embeddings: _States
    image_pids: _States
    image_index: _States

    def __init__(self, evaluate: Callable[..., dict[str, float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluate = evaluate
        states = [f"{side}_{name}" for side in _SIDES for name in ("embeddings", "pids", "index")]
        for name in (*states, "text_image_index"):
            self.add_state(name, [], "cat")  # pyright: ignore[reportUnknownMemberType]  # untyped

    def update(self, embeddings: Float[Tensor, "batch dim"], batch: TextBatch | ImageBatch) -> None:
        """Collect one batch.

        Args:
            embeddings: What the method made of `batch`, row by row.
            batch: Texts or images; its type says which.
        """
        side = "text" if isinstance(batch, TextBatch) else "image"
        collected = {"embeddings": embeddings, "pids": batch.pid, "index": batch.index}
        if isinstance(batch, TextBatch):
            collected["image_index"] = batch.image_index
        for name, values in collected.items():
            cast(list[Tensor], getattr(self, f"{side}_{name}")).append(values.detach())

    def compute(self) -> dict[str, float]:
        """Evaluate everything collected, each sample once."""
        for side, index in (("text", self.text_index), ("image", self.image_index)):
            if not len(index):
                raise ValueError(f"expected at least one {side} batch before compute, got none")
        text = _first_of_each(dim_zero_cat(self.text_index))
        image = _first_of_each(dim_zero_cat(self.image_index))
        gallery_index = dim_zero_cat(self.image_index)[image]
        wanted = dim_zero_cat(self.text_image_index)[text]
        place = torch.searchsorted(gallery_index, wanted).clamp_max(len(gallery_index) - 1)
        return self.evaluate(
            dim_zero_cat(self.text_embeddings)[text],
            dim_zero_cat(self.image_embeddings)[image],
            dim_zero_cat(self.text_pids)[text],
            dim_zero_cat(self.image_pids)[image],
            paired=torch.where(gallery_index[place] == wanted, place, -1),
        )


def _first_of_each(index: Int[Tensor, " samples"]) -> Int[Tensor, " kept"]:
    """Positions of the first sample of each index, by rising index."""
    ordered, order = index.sort(stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]
