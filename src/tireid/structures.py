"""Encoder outputs and batches: the structures that cross module borders."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "batch 3 height width"]  # normalised RGB
# As a loader may give them, to be normalised on the device.
LoadedImages = Images | UInt8[Tensor, "batch 3 height width"]
TokenIds = Int[Tensor, "batch length"]  # padded captions
Valid = Bool[Tensor, "batch length"]  # True = real token
Words = Float[Tensor, "batch length width"] | None  # token features of a frozen encoder, if cached
Features = Float[Tensor, "batch dim"]  # one row an image or a text
Ids = Int[Tensor, " batch"]  # one number a row: identities, classes, keys
Scalar = Float[Tensor, ""]


class Tokens(NamedTuple):
    """The output of every encoder, whatever its family and modality.

    Attributes:
        pooled: One feature per sample, not normalised.
        local: Features of patches or text tokens, without the class token, not normalised.
        valid: True where `local` holds a real token; padding is False.
    """

    pooled: Features
    local: Float[Tensor, "batch length dim"]
    valid: Valid


class TokenMaps(NamedTuple):
    """The weights that a method gives the tokens of images or of texts.

    Attributes:
        valid: True where a token is real.
        parts: Attention weights from parts (LGUR: prototypes) to tokens, per layer and head. A row
            sums to 1 over the valid tokens and is 0 on padding. None without such attention.
        foreground: Weight of each token, in (0, 1). None without such weights.
        atoms: Attention weights from tokens to the atoms of a dictionary, per head. A row sums to
            1, that of padding is 0. None without a dictionary.
    """

    valid: Valid
    parts: Float[Tensor, "batch layers heads parts length"] | None = None
    foreground: Float[Tensor, "batch length"] | None = None
    atoms: Float[Tensor, "batch heads length atoms"] | None = None


class TextBatch(NamedTuple):
    """Captions, as queries of an evaluation.

    Attributes:
        token_ids: Token ids, padded to the longest caption of the batch.
        valid: True where a token is real.
        pid: The data set's own identity numbers.
        index: Position of the caption in its split, by which a sampler's duplicates are removed.
        image_index: Position, in the gallery of the split, of the image the caption describes.
        words: Token features of the text encoder's frozen embedding, if computed beforehand.
    """

    token_ids: TokenIds
    valid: Valid
    pid: Ids
    index: Ids  # pyright: ignore[reportIncompatibleMethodOverride] -- a field
    image_index: Ids
    words: Words = None


class ImageBatch(NamedTuple):
    """Images, as the gallery of an evaluation.

    Attributes:
        images: Images, normalised RGB; from a loader to the device maybe as bytes.
        pid: The data set's own identity numbers.
        index: Position of the image in the gallery of its split.
    """

    images: LoadedImages
    pid: Ids
    index: Ids  # pyright: ignore[reportIncompatibleMethodOverride] -- a field


class SupportBatch(NamedTuple):
    """Support sets of a training batch: other images and captions of each pair's identity.

    Attributes:
        images: The distinct support images, as those of `PairBatch`.
        image_slots: Rows of `images` for each pair of the batch; -1 is an empty slot.
        token_ids: The distinct support captions, padded to the longest.
        valid: True where a token is real.
        text_slots: Rows of `token_ids` for each pair of the batch; -1 is an empty slot.
        words: Token features of the support captions, as in `PairBatch`.
        image_keys: Position in the split of each of `images`; None if unknown.
        text_keys: Position in the split of each of `token_ids`; None if unknown.
    """

    images: LoadedImages
    image_slots: Int[Tensor, "batch image_slots"]
    token_ids: Int[Tensor, "support_texts length"]
    valid: Bool[Tensor, "support_texts length"]
    text_slots: Int[Tensor, "batch text_slots"]
    words: Float[Tensor, "support_texts length width"] | None = None
    image_keys: Int[Tensor, " support_images"] | None = None
    text_keys: Int[Tensor, " support_texts"] | None = None


class MaskedWords(NamedTuple):
    """Captions of a training batch with some words masked, to be predicted.

    Attributes:
        token_ids: As in `PairBatch`, some ids replaced.
        rows: Caption of each masked word.
        positions: Position of each masked word in its caption.
        words: The ids that were there.
    """

    token_ids: TokenIds
    rows: Int[Tensor, " masked"]
    positions: Int[Tensor, " masked"]
    words: Int[Tensor, " masked"]


class PairBatch(NamedTuple):
    """Training pairs: row i is an image and one of its captions.

    Attributes:
        images: Images, normalised RGB; from a loader to the device maybe as bytes.
        token_ids: Token ids, padded to the longest caption of the batch.
        valid: True where a token is real.
        label: Training class, 0 .. ids - 1, in the order of the sorted pids.
        pid: The data set's own identity numbers.
        image_id: Key of the image within its split, equal for all captions of one image. If two
            entries of an identity name one file: the position of the first.
        index: Position of the (image, caption) pair in the split.
        words: Token features of the text encoder's frozen embedding, if computed beforehand.
        support: Support sets, if the method asks for them.
        masked: The captions with masked words, if the method asks for them.
    """

    images: LoadedImages
    token_ids: TokenIds
    valid: Valid
    label: Ids
    pid: Ids
    image_id: Ids
    index: Ids  # pyright: ignore[reportIncompatibleMethodOverride] -- a field
    words: Words = None
    support: SupportBatch | None = None
    masked: MaskedWords | None = None
