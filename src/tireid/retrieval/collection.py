"""Collect the embeddings of a split over batches and processes, and evaluate them."""

from functools import partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from tireid.metrics.names import IMAGE_TO_TEXT
from tireid.retrieval.evaluation import evaluate_embeddings
from tireid.structures import ImageBatch, TextBatch

_SIDES = ("text", "image")
_States = list[Tensor] | Tensor  # torchmetrics turns lists into tensors when it synchronises


class SplitEmbeddings(NamedTuple):
    """All embeddings of a split, in the order of the split, each item once.

    Attributes:
        texts: Unit-norm embeddings of the captions.
        images: Unit-norm embeddings of the gallery.
        text_pids: Identity of each caption.
        image_pids: Identity of each image.
        image_index: Position in the gallery of the image each caption describes; -1 where it
            was not embedded.
    """

    texts: Float[Tensor, "query dim"]
    images: Float[Tensor, "gallery dim"]
    text_pids: Int[Tensor, " query"]
    image_pids: Int[Tensor, " gallery"]
    image_index: Int[Tensor, " query"]

    def metrics(self, block_size: int = 256) -> dict[str, float]:
        """Rank both directions, shared by the processes of a run.

        Args:
            block_size: Queries ranked at once; bounds the memory.

        Returns:
            As `RetrievalMetrics.compute`.
        """
        evaluate = partial(evaluate_embeddings, block_size=block_size, shared=True)
        texts, images, text_pids, image_pids, image_index = self
        forward = evaluate(texts, images, text_pids, image_pids, paired=image_index)
        backward = evaluate(images, texts, image_pids, text_pids)
        return forward | {f"{IMAGE_TO_TEXT}{name}": value for name, value in backward.items()}


class RetrievalMetrics(Metric):
    """The retrieval metrics of a split, of both directions, from embeddings in any order.

    A distributed sampler repeats samples to fill its last batch. Each `index` is kept once, so the
    metrics of several processes are those of one.

    Args:
        block_size: Queries ranked at once; bounds the memory.
        kwargs: For `torchmetrics.Metric`. `compute_on_cpu=True` spares GPU memory, but its states
            cannot be gathered by NCCL.

    Attributes:
        split: The embeddings that the last `compute` evaluated; None before.

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
    split: SplitEmbeddings | None

    def __init__(self, block_size: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block_size = block_size
        self.split = None
        states = [f"{side}_{name}" for side in _SIDES for name in ("embeddings", "pids", "index")]
        for name in (*states, "text_image_index"):
            self.add_state(name, [], "cat")  # pyright: ignore[reportUnknownMemberType]  # untyped

    def update(self, embeddings: Float[Tensor, "batch dim"], batch: TextBatch | ImageBatch) -> None:
        """Collect one batch.

        Args:
            embeddings: The method's embedding of each row of `batch`.
            batch: Texts or images; its type says which.
        """
        side = "text" if isinstance(batch, TextBatch) else "image"
        collected = {"embeddings": embeddings, "pids": batch.pid, "index": batch.index}
        if isinstance(batch, TextBatch):
            collected["image_index"] = batch.image_index
        for name, values in collected.items():
            cast(list[Tensor], getattr(self, f"{side}_{name}")).append(values.detach())

    def compute(self) -> dict[str, float]:
        """Evaluate everything collected, each sample once; the processes share the ranking.

        Returns:
            The keys of `tireid.metrics.retrieval_metrics`, and with `i2t_` before them those of
            images that query texts; in percent.
        """
        self.split = self._join()
        return self.split.metrics(self.block_size)

    def _join(self) -> SplitEmbeddings:
        for side, index in (("text", self.text_index), ("image", self.image_index)):
            if not len(index):
                raise ValueError(f"expected at least one {side} batch before compute, got none")
        text = _first_of_each(dim_zero_cat(self.text_index))
        image = _first_of_each(dim_zero_cat(self.image_index))
        gallery_index = dim_zero_cat(self.image_index)[image]
        wanted = dim_zero_cat(self.text_image_index)[text]
        position = torch.searchsorted(gallery_index, wanted).clamp_max(len(gallery_index) - 1)
        split = SplitEmbeddings(
            texts=dim_zero_cat(self.text_embeddings)[text],
            images=dim_zero_cat(self.image_embeddings)[image],
            text_pids=dim_zero_cat(self.text_pids)[text],
            image_pids=dim_zero_cat(self.image_pids)[image],
            image_index=torch.where(gallery_index[position] == wanted, position, -1),
        )
        if split.texts.device.type == "mps":  # exact similarities need float64, which MPS lacks
            return SplitEmbeddings(*(tensor.cpu() for tensor in split))
        return split


def _first_of_each(index: Int[Tensor, " samples"]) -> Int[Tensor, " kept"]:
    """Return the position of the first sample of each index, by rising index."""
    ordered, order = index.sort(stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]
