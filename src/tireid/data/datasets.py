"""Data sets and batches: training pairs, and the texts and images of an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from tireid.data.images import ImageSource
from tireid.data.records import Record
from tireid.data.samplers import SampleKey
from tireid.data.supports import EMPTY, SupportDrawing, SupportSet
from tireid.data.transforms import keyed_generator
from tireid.structures import ImageBatch, PairBatch, SupportBatch, TextBatch

TrainImageTransform = Callable[
    [UInt8[Tensor, "3 height width"], torch.Generator], Float[Tensor, "3 height width"]
]
WordsOf = Callable[[Sequence[int]], Float[Tensor, "batch length width"]]
EvalImageTransform = Callable[[UInt8[Tensor, "3 height width"]], Float[Tensor, "3 height width"]]
# Separates the random draws of a support image's augmentation from those of the anchors.
_SUPPORT_IMAGE = int.from_bytes(b"augment", "big")


@dataclass(frozen=True, slots=True)
class PairItem:
    """One (image, caption) pair; see `PairBatch`."""

    image: Float[Tensor, "3 height width"]
    token_ids: list[int]
    label: int
    pid: int
    image_id: int
    index: int
    support: SupportSet | None = None


@dataclass(frozen=True, slots=True)
class TextItem:
    """One caption; see `TextBatch`."""

    token_ids: list[int]
    pid: int
    index: int
    image_index: int


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image; see `ImageBatch`."""

    image: Float[Tensor, "3 height width"]
    pid: int
    index: int


class PairDataset(Dataset[PairItem]):
    """Every caption with its image, in the order of the records.

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
        supports: Draws each pair's support set, for methods that need them; changes nothing else.
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
        supports: SupportDrawing | None = None,
    ) -> None:
        self._records = records
        self._token_ids = token_ids
        self._images = images
        self._transform = transform
        self._seed = seed
        self._pad_id = pad_id
        self._words_of = words_of
        self._supports = supports
        self._image_of = _image_of_captions(records)
        self._label_of = label_of
        first: dict[tuple[int, Path], int] = {}
        self._keys = [first.setdefault((r.pid, r.image_path), r.image_id) for r in records]

    @property
    def labels(self) -> list[int]:
        """Class of each pair."""
        return [self._label_of[self._records[image].pid] for image in self._image_of]

    def __len__(self) -> int:
        return len(self._image_of)

    def __getitem__(self, key: SampleKey | int) -> PairItem:
        """Return the pair of a training sampler's key; a bare index means epoch 0."""
        key = key if isinstance(key, tuple) else SampleKey(0, key)
        epoch, index, repeat = key
        image_index = self._image_of[index]
        record = self._records[image_index]
        generator = keyed_generator(self._seed, epoch, index, repeat)
        return PairItem(
            image=self._transform(self._images[image_index], generator),
            token_ids=self._token_ids[index],
            label=self._label_of[record.pid],
            pid=record.pid,
            image_id=self._keys[image_index],
            index=index,
            support=self._supports.for_pair(key) if self._supports is not None else None,
        )

    def collate(self, items: Sequence[PairItem]) -> PairBatch:
        """Stack pairs; captions are padded to the longest of the batch."""
        index = [item.index for item in items]
        token_ids, valid = pad_captions([item.token_ids for item in items], self._pad_id)
        return PairBatch(
            images=torch.stack([item.image for item in items]),
            token_ids=token_ids,
            valid=valid,
            label=torch.tensor([item.label for item in items]),
            pid=torch.tensor([item.pid for item in items]),
            image_id=torch.tensor([item.image_id for item in items]),
            index=torch.tensor(index),
            words=None if self._words_of is None else self._words_of(index),
            support=None if self._supports is None else self._load_supports(items),
        )

    def _load_supports(self, items: Sequence[PairItem]) -> SupportBatch:
        """Return the support sets of the items; of no images at all if all slots are empty."""
        sets = [item.support for item in items if item.support is not None]
        images, image_slots = _distinct([support.images for support in sets])
        captions, text_slots = _distinct([support.captions for support in sets])
        pixels = items[0].image.new_empty((len(images), *items[0].image.shape))
        for row, image in enumerate(images):
            generator = keyed_generator(self._seed, sets[0].epoch, image, _SUPPORT_IMAGE)
            pixels[row] = self._transform(self._images[image], generator)
        token_ids, valid = pad_captions([self._token_ids[c] for c in captions], self._pad_id)
        return SupportBatch(
            images=pixels,
            image_slots=image_slots,
            token_ids=token_ids,
            valid=valid,
            text_slots=text_slots,
            words=None if self._words_of is None else self._words_of(captions),
            image_keys=torch.tensor(images, dtype=torch.int64),
            text_keys=torch.tensor(captions, dtype=torch.int64),
        )


class TextDataset(Dataset[TextItem]):
    """Every caption once.

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
        self._records = records
        self._token_ids = token_ids
        self._pad_id = pad_id
        self._words_of = words_of
        self._image_of = _image_of_captions(records)

    def __len__(self) -> int:
        return len(self._image_of)

    def __getitem__(self, index: int) -> TextItem:
        """Return one caption."""
        image_index = self._image_of[index]
        return TextItem(self._token_ids[index], self._records[image_index].pid, index, image_index)

    def collate(self, items: Sequence[TextItem]) -> TextBatch:
        """Stack captions, padded to the longest of the batch."""
        index = [item.index for item in items]
        token_ids, valid = pad_captions([item.token_ids for item in items], self._pad_id)
        return TextBatch(
            token_ids=token_ids,
            valid=valid,
            pid=torch.tensor([item.pid for item in items]),
            index=torch.tensor(index),
            image_index=torch.tensor([item.image_index for item in items]),
            words=None if self._words_of is None else self._words_of(index),
        )


class ImageDataset(Dataset[ImageItem]):
    """Every image once.

    Args:
        records: Records of the split.
        images: Images in the order of the records.
        transform: Normalises an image.
    """

    def __init__(
        self, records: Sequence[Record], images: ImageSource, transform: EvalImageTransform
    ) -> None:
        self._records = records
        self._images = images
        self._transform = transform

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> ImageItem:
        """Return one image."""
        return ImageItem(self._transform(self._images[index]), self._records[index].pid, index)

    def collate(self, items: Sequence[ImageItem]) -> ImageBatch:
        """Stack images."""
        return ImageBatch(
            images=torch.stack([item.image for item in items]),
            pid=torch.tensor([item.pid for item in items]),
            index=torch.tensor([item.index for item in items]),
        )


def pad_captions(
    token_ids: Sequence[list[int]], pad_id: int
) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
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


def _image_of_captions(records: Sequence[Record]) -> list[int]:
    """Return, for each caption of the split, the position of its image."""
    return [image for image, record in enumerate(records) for _ in record.captions]
