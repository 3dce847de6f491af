"""A split with the embeddings of its captions and images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from tireid.data.datasets import pad_captions
from tireid.data.records import Record, captions_of
from tireid.data.tokenizers import CaptionTokenizer
from tireid.methods.base import RetrievalModule


@dataclass(frozen=True)
class EmbeddedSplit:
    """A split, its embeddings, and how its items enter the model.

    Attributes:
        name: Name of the split.
        records: Records in the order of the gallery.
        texts: Unit-norm embeddings of all captions, on the CPU.
        images: Unit-norm embeddings of the gallery, on the CPU.
        image_of: Position in the gallery of the image that each caption describes.
        tokenizer: The run's tokenizer.
        load_image: Reads an image as the model takes it.
        device: Where models compute.
    """

    name: str
    records: Sequence[Record]
    texts: Float[Tensor, "query dim"]
    images: Float[Tensor, "gallery dim"]
    image_of: Sequence[int]
    tokenizer: CaptionTokenizer
    load_image: Callable[[Path], Tensor]
    device: torch.device = torch.device("cpu")  # noqa: RUF009 -- immutable

    @property
    def captions(self) -> list[str]:
        """All captions, in the order of the records."""
        return captions_of(self.records)

    def load_images(self, positions: Sequence[int]) -> Float[Tensor, "batch 3 height width"]:
        """Return the images at some positions of the gallery as a batch."""
        images = [self.load_image(self.records[i].image_path) for i in positions]
        return torch.stack(images).to(self.device)

    def tokens(
        self, captions: Sequence[str]
    ) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        """Return the token ids of captions, and which of them are no padding."""
        ids, valid = pad_captions(self.tokenizer(list(captions)), self.tokenizer.pad_id)
        return ids.to(self.device), valid.to(self.device)


@torch.no_grad()
def embed_split(
    model: RetrievalModule, datamodule: Any, split: str, device: torch.device
) -> EmbeddedSplit:
    """Embed all captions and images of a split, in float32."""
    model.eval().to(device)
    texts, images = (
        torch.cat([model.embed(move_data_to_device(batch, device)).cpu() for batch in loader])
        for loader in datamodule.whole_split(split)
    )
    records = datamodule.records(split)
    return EmbeddedSplit(
        name=split,
        records=records,
        texts=texts,
        images=images,
        image_of=[image for image, record in enumerate(records) for _ in record.captions],
        tokenizer=datamodule.tokenizer,
        load_image=datamodule.eval_image_transform,
        device=device,
    )


def evenly(count: int, total: int) -> Int[np.ndarray, " chosen"]:
    """Return up to `count` positions spread over `total`."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
