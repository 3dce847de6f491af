"""What crosses module borders: encoder outputs and batches."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Tokens(NamedTuple):
    """What every encoder returns, whatever its family and modality.

    Attributes:
        pooled: One feature per sample, not normalised.
        local: Patch or word features, without the class token, not normalised.
        valid: True where `local` holds a real token; padding is False.
    """

    pooled: Float[Tensor, "batch dim"]
    local: Float[Tensor, "batch length dim"]
    valid: Bool[Tensor, "batch length"]


class TextBatch(NamedTuple):
    """Captions, as queries of an evaluation.

    Attributes:
        token_ids: Padded to the longest caption of the batch.
        valid: True = real token.
        pid: The data set's own identity numbers.
        index: Position of the caption in its split; the key that removes sampler duplicates.
        image_index: Position, in the gallery of the split, of the image the caption describes.
    """

    token_ids: Int[Tensor, "batch length"]
    valid: Bool[Tensor, "batch length"]
    pid: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]  # pyright: ignore[reportIncompatibleMethodOverride] -- a field
    image_index: Int[Tensor, " batch"]


class ImageBatch(NamedTuple):
    """Images, as the gallery of an evaluation.

    Attributes:
        images: Normalised RGB.
        pid: The data set's own identity numbers.
        index: Position of the image in the gallery of its split.
    """

    images: Float[Tensor, "batch 3 height width"]
    pid: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]  # pyright: ignore[reportIncompatibleMethodOverride] -- a field


class PairBatch(NamedTuple):
    """Training pairs: row i is an image and one of its captions.

    Attributes:
        images: Normalised RGB.
        token_ids: Padded to the longest caption of the batch.
        valid: True = real token.
        label: Training class, 0 .. ids - 1, in the order of the sorted pids.
        pid: The data set's own identity numbers.
        image_id: Key of the image within its split; equal for two captions of one image.
        index: Position of the (image, caption) pair in the split.
    """

    images: Float[Tensor, "batch 3 height width"]
    token_ids: Int[Tensor, "batch length"]
    valid: Bool[Tensor, "batch length"]
    label: Int[Tensor, " batch"]
    pid: Int[Tensor, " batch"]
    image_id: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]  # pyright: ignore[reportIncompatibleMethodOverride] -- a field
