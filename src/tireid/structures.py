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


class TokenMaps(NamedTuple):
    """How a method weighs the tokens of images or of texts on the way to their features.

    Attributes:
        valid: True = real token.
        parts: What each part (LGUR: prototype) pays each token, by layer and head. A row sums to 1
            over the valid tokens, padding gets 0. None: there is no such attention.
        foreground: Weight of each token, in (0, 1). None: there is none.
        atoms: What each token pays each atom of a dictionary, by head. A row sums to 1, those of
            padding are 0. None: there is no dictionary.
    """

    valid: Bool[Tensor, "batch length"]
    parts: Float[Tensor, "batch layers heads parts length"] | None = None
    foreground: Float[Tensor, "batch length"] | None = None
    atoms: Float[Tensor, "batch heads length atoms"] | None = None


class TextBatch(NamedTuple):
    """Captions, as queries of an evaluation.

    Attributes:
        token_ids: Padded to the longest caption of the batch.
        valid: True = real token.
        pid: The data set's own identity numbers.
        index: Position of the caption in its split; the key that removes sampler duplicates.
        image_index: Position, in the gallery of the split, of the image the caption describes.
        words: Output of the text encoder's frozen word encoder, where it was computed beforehand.
    """

    token_ids: Int[Tensor, "batch length"]
    valid: Bool[Tensor, "batch length"]
    pid: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]  # pyright: ignore[reportIncompatibleMethodOverride] -- a field
    image_index: Int[Tensor, " batch"]
    words: Float[Tensor, "batch length width"] | None = None


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


class SupportBatch(NamedTuple):
    """Support sets of a training batch: other images and captions of each pair's identity.

    Attributes:
        images: The distinct support images, normalised RGB.
        image_slots: For each pair of the batch, rows of `images`; -1 = empty slot.
        token_ids: The distinct support captions, padded to the longest.
        valid: True = real token.
        text_slots: For each pair of the batch, rows of `token_ids`; -1 = empty slot.
        words: As in `PairBatch`, of the support captions.
        image_keys: Position in the split of each of `images`; None: not known.
        text_keys: Likewise, of each of `token_ids`.
    """

    images: Float[Tensor, "support_images 3 height width"]
    image_slots: Int[Tensor, "batch image_slots"]
    token_ids: Int[Tensor, "support_texts length"]
    valid: Bool[Tensor, "support_texts length"]
    text_slots: Int[Tensor, "batch text_slots"]
    words: Float[Tensor, "support_texts length width"] | None = None
    image_keys: Int[Tensor, " support_images"] | None = None
    text_keys: Int[Tensor, " support_texts"] | None = None


class PairBatch(NamedTuple):
    """Training pairs: row i is an image and one of its captions.

    Attributes:
        images: Normalised RGB.
        token_ids: Padded to the longest caption of the batch.
        valid: True = real token.
        label: Training class, 0 .. ids - 1, in the order of the sorted pids.
        pid: The data set's own identity numbers.
        image_id: Key of the image within its split; equal for two captions of one image, also where
            an identity's file is named by two entries: the position of the first.
        index: Position of the (image, caption) pair in the split.
        words: Output of the text encoder's frozen word encoder, where it was computed beforehand.
        support: Support sets, where the method asks for them.
    """

    images: Float[Tensor, "batch 3 height width"]
    token_ids: Int[Tensor, "batch length"]
    valid: Bool[Tensor, "batch length"]
    label: Int[Tensor, " batch"]
    pid: Int[Tensor, " batch"]
    image_id: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]  # pyright: ignore[reportIncompatibleMethodOverride] -- a field
    words: Float[Tensor, "batch length width"] | None = None
    support: SupportBatch | None = None
