"""Data sets and batches: training pairs, and the texts and images of an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from tireid.data.caption_augmentation import BackTranslation
from tireid.data.image_source import ImageSource
from tireid.data.masking import WordMasking
from tireid.data.records import Record
from tireid.data.samplers import SampleKey
from tireid.data.supports import EMPTY, SupportDrawing
from tireid.data.transforms import Pixels, keyed_generator
from tireid.structures import (
    ImageBatch,
    MaskedWords,
    PairBatch,
    SupportBatch,
    TextBatch,
    TokenIds,
    Valid,
)

TrainImageTransform = Callable[[UInt8[Tensor, "3 height width"], torch.Generator], Pixels]
CaptionTransform = Callable[[list[int], torch.Generator], list[int]]
WordsOf = Callable[[Sequence[int]], Float[Tensor, "batch length width"]]
EvalImageTransform = Callable[[UInt8[Tensor, "3 height width"]], Pixels]
# Separates the random draws of a support image's augmentation from those of the anchors.
_SUPPORT_IMAGE = int.from_bytes(b"augment", "big")
_MASKED_WORDS = int.from_bytes(b"masking", "big")  # and those of its masked words
_CAPTION = int.from_bytes(b"caption", "big")  # and of a caption's
_TRANSLATION = int.from_bytes(b"translat", "big") >> 1  # and of whether it is translated


class PairDataset(Dataset[SampleKey]):
    """Every caption with its image, in the order of the records.

    An item is the key of a training sampler; `collate` loads what it stands for.

    A support image or caption that several pairs of a batch have drawn is in the batch once. A
    support image is augmented once an epoch, whatever batch it comes in.

    Args:
        records: Records of the split.
        token_ids: Ids of all captions, in the order of the records.
        images: Images in the order of the records.
        label_of: Class of each identity.
        transform: Augments and normalises an image.
        seed: Key of the augmentation, with epoch and index: neither the number of workers nor that
            of processes changes an item.
        pad_id: Fills the token ids of a batch.
        words_of: Positions of captions in the split to their token features, padded to the longest.
        caption_transform: Augments the ids of a caption; features of `words_of` are those of other
            words then, and left out.
        translation: Takes some captions translated, before that; likewise.
        supports: Draws each pair's support set, for methods that need them; changes nothing else.
        masking: Masks words of each caption, for methods that predict them; likewise.
    """

    def __init__(
        self,
        records: Sequence[Record],
        token_ids: Sequence[list[int]],
        images: ImageSource,
        *,
        label_of: Mapping[int, int],
        transform: TrainImageTransform,
        seed: int,
        pad_id: int,
        words_of: WordsOf | None = None,
        caption_transform: CaptionTransform | None = None,
        translation: BackTranslation | None = None,
        supports: SupportDrawing | None = None,
        masking: WordMasking | None = None,
    ) -> None:
        self._token_ids = token_ids
        self._caption_transform, self._translation = caption_transform, translation
        self._images = images
        self._transform = transform
        self._seed = seed
        self._pad_id = pad_id
        self._words_of = words_of if caption_transform is None and translation is None else None
        self._supports = supports
        self._masking = masking
        self._image_of = _image_of_captions(records)
        self._pids = torch.tensor([record.pid for record in records])
        self._labels = torch.tensor([label_of[record.pid] for record in records])
        first: dict[tuple[int, Path], int] = {}
        keys = [first.setdefault((r.pid, r.image_path), r.image_id) for r in records]
        self._image_keys = torch.tensor(keys)

    @property
    def labels(self) -> list[int]:
        """Class of each pair."""
        return self._labels[self._image_of].tolist()

    def __len__(self) -> int:
        return len(self._image_of)

    def __getitem__(self, key: SampleKey) -> SampleKey:
        """Return the key of a pair."""
        return key

    def collate(self, keys: Sequence[SampleKey]) -> PairBatch:
        """Load and stack pairs; captions are padded to the longest of the batch."""
        pairs = [key.pair for key in keys]
        images = self._image_of[pairs]
        captions = [self._caption(key) for key in keys]
        token_ids, valid = pad_captions(captions, self._pad_id)
        pixels = [
            self._transform(self._images[image], keyed_generator(self._seed, *key))
            for key, image in zip(keys, images.tolist(), strict=True)
        ]
        return PairBatch(
            images=torch.stack(pixels),
            token_ids=token_ids,
            valid=valid,
            label=self._labels[images],
            pid=self._pids[images],
            image_id=self._image_keys[images],
            index=torch.tensor(pairs),
            words=None if self._words_of is None else self._words_of(pairs),
            support=None if self._supports is None else self._load_supports(self._supports, keys),
            masked=None
            if self._masking is None
            else self._mask(self._masking, keys, captions, token_ids),
        )

    def _caption(self, key: SampleKey) -> list[int]:
        ids = self._token_ids[key.pair]
        if self._translation is not None:
            draw = keyed_generator(self._seed, *key, _TRANSLATION)
            ids = self._translation(key.pair, ids, draw)
        if self._caption_transform is None:
            return ids
        return self._caption_transform(ids, keyed_generator(self._seed, *key, _CAPTION))

    def _mask(
        self,
        masking: WordMasking,
        keys: Sequence[SampleKey],
        captions: list[list[int]],
        token_ids: TokenIds,
    ) -> MaskedWords:
        draws = [
            masking.draw(ids, keyed_generator(self._seed, *key, _MASKED_WORDS))
            for key, ids in zip(keys, captions, strict=True)
        ]
        return masking.batch(captions, draws, token_ids)

    def _load_supports(self, drawing: SupportDrawing, keys: Sequence[SampleKey]) -> SupportBatch:
        """Return the support sets of some pairs; of no images at all if all slots are empty."""
        sets = [drawing.for_pair(key) for key in keys]
        images, image_slots = _distinct([support.images for support in sets])
        captions, text_slots = _distinct([support.captions for support in sets])
        epoch = keys[0].epoch
        pixels = [
            self._transform(
                self._images[image], keyed_generator(self._seed, epoch, image, _SUPPORT_IMAGE)
            )
            for image in images
        ]
        token_ids, valid = pad_captions([self._token_ids[c] for c in captions], self._pad_id)
        return SupportBatch(
            images=torch.stack(pixels) if pixels else torch.empty((0, 3, *self._images.image_size)),
            image_slots=image_slots,
            token_ids=token_ids,
            valid=valid,
            text_slots=text_slots,
            words=None if self._words_of is None else self._words_of(captions),
            image_keys=torch.tensor(images, dtype=torch.int64),
            text_keys=torch.tensor(captions, dtype=torch.int64),
        )


class TextDataset(Dataset[int]):
    """Every caption once; an item is its position, which `collate` looks up.

    Args:
        records: Records of the split.
        token_ids: Ids of all captions, in the order of the records.
        pad_id: As in `PairDataset`.
        words_of: As in `PairDataset`.
    """

    def __init__(
        self,
        records: Sequence[Record],
        token_ids: Sequence[list[int]],
        *,
        pad_id: int,
        words_of: WordsOf | None = None,
    ) -> None:
        self._token_ids = token_ids
        self._pad_id = pad_id
        self._words_of = words_of
        self._image_of = _image_of_captions(records)
        self._pids = torch.tensor([record.pid for record in records])

    def __len__(self) -> int:
        return len(self._image_of)

    def __getitem__(self, index: int) -> int:
        """Return the position of a caption."""
        return index

    def collate(self, captions: Sequence[int]) -> TextBatch:
        """Stack captions, padded to the longest of the batch."""
        token_ids, valid = pad_captions([self._token_ids[c] for c in captions], self._pad_id)
        index = torch.tensor(captions)
        return TextBatch(
            token_ids=token_ids,
            valid=valid,
            pid=self._pids[self._image_of[index]],
            index=index,
            image_index=self._image_of[index],
            words=None if self._words_of is None else self._words_of(captions),
        )


class ImageDataset(Dataset[int]):
    """Every image once; an item is its position, which `collate` looks up.

    Args:
        records: Records of the split.
        images: Images in the order of the records.
        transform: Normalises an image.
    """

    def __init__(
        self, records: Sequence[Record], images: ImageSource, transform: EvalImageTransform
    ) -> None:
        self._images = images
        self._transform = transform
        self._pids = torch.tensor([record.pid for record in records])

    def __len__(self) -> int:
        return len(self._pids)

    def __getitem__(self, index: int) -> int:
        """Return the position of an image."""
        return index

    def collate(self, images: Sequence[int]) -> ImageBatch:
        """Read and stack images."""
        index = torch.tensor(images)
        return ImageBatch(
            images=torch.stack([self._transform(self._images[image]) for image in images]),
            pid=self._pids[index],
            index=index,
        )


def pad_captions(token_ids: Sequence[list[int]], pad_id: int) -> tuple[TokenIds, Valid]:
    """Return ids padded to the longest caption, and where they are real (from the lengths)."""
    lengths = torch.tensor([len(ids) for ids in token_ids], dtype=torch.int64)
    longest = max((len(ids) for ids in token_ids), default=0)
    padded = [ids + [pad_id] * (longest - len(ids)) for ids in token_ids]
    return (
        torch.tensor(padded, dtype=torch.int64).reshape(len(token_ids), longest),
        torch.arange(longest) < lengths[:, None],
    )


def _distinct(
    drawn: Sequence[tuple[int, ...]],
) -> tuple[list[int], Int[Tensor, "batch slots"]]:
    """Return the distinct members, and for each slot its member's index; empty stays empty."""
    index: dict[int, int] = {}
    slots = [
        [EMPTY if item == EMPTY else index.setdefault(item, len(index)) for item in members]
        for members in drawn
    ]
    return list(index), torch.tensor(slots, dtype=torch.int64)


def _image_of_captions(records: Sequence[Record]) -> Int[Tensor, " captions"]:
    """Return, for each caption of the split, the position of its image."""
    return torch.tensor([image for image, record in enumerate(records) for _ in record.captions])
