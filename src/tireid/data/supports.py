"""Support sets: other images and captions of its identity, drawn for each pair.

LCR2S, Yan et al., ACM MM 2023: the teacher sees an image with other images of its identity, and a
text with other texts of its identity. `SupportSettings` sets how many, and what happens if there
are too few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from tireid.data.records import Record
from tireid.data.samplers import SampleKey
from tireid.data.transforms import keyed_generator

EMPTY = -1
SHORT = ("replace", "pad", "drop")
# Last number of the keys of these draws; neither a repeat nor an index is ever as large.
_IMAGES = int.from_bytes(b"support", "big")
_TEXTS = _IMAGES + 1


@dataclass(frozen=True, slots=True)
class SupportSettings:
    """Size and content of support sets.

    Attributes:
        num_images: Slots for other images of the identity, >= 0.
        num_texts: Slots for other captions of the identity, >= 0.
        short: Rule for identities that have fewer. `replace`: take all, then draw again among
            them. `pad`: take all and leave the other slots empty. `drop`: leave training identities
            with a single image out of the data, else as `replace`. All slots are empty if there is
            nothing to draw from.
        paired: Whether the captions are those of the drawn images, one of each.
        exclude_same_image_text: Whether captions of the pair's own image are excluded. The pair's
            own caption always is.

    Raises:
        ValueError: If a value is out of its range, or two of them contradict each other.
    """

    num_images: int
    num_texts: int
    short: str = "replace"
    paired: bool = False
    exclude_same_image_text: bool = True

    def __post_init__(self) -> None:
        for name in ("num_images", "num_texts"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"supports.{name}: expected an integer >= 0, got {value!r}")
        if self.short not in SHORT:
            raise ValueError(
                f"supports.short: expected one of {', '.join(SHORT)}, got {self.short!r}"
            )
        for name in ("paired", "exclude_same_image_text"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"supports.{name}: expected true or false, got {value!r}")
        if self.paired and self.num_images != self.num_texts:
            raise ValueError(
                "supports.paired: expected as many num_texts as num_images, which are drawn"
                f" together, got {self.num_texts} and {self.num_images}"
            )
        if self.paired and not self.exclude_same_image_text:
            raise ValueError(
                "supports.exclude_same_image_text: expected true with supports.paired=true, whose"
                " captions are those of other images, got false"
            )


class SupportSet(NamedTuple):
    """The draw for a pair: positions in the split, -1 = empty slot.

    Attributes:
        images: Positions of images, the `image_id` of their records.
        captions: Positions of captions.
    """

    images: tuple[int, ...]
    captions: tuple[int, ...]


class SplitSupports(NamedTuple):
    """The draws for every image and caption of a split, -1 = empty slot.

    Attributes:
        images: For each image of the gallery, positions in the gallery of its support images.
        texts: For each caption, positions among the captions of its support captions.
    """

    images: Int[Tensor, "gallery image_slots"]
    texts: Int[Tensor, "query text_slots"]


class SupportDrawing:
    """Draws support sets from the records of one split.

    An entry with the same image file as an anchor is not another image.

    Args:
        records: Records of the split.
        settings: Size and content of the sets.
        seed: Key of all draws, with the item they are for: they depend neither on the number of
            workers nor on that of processes.
    """

    def __init__(self, records: Sequence[Record], settings: SupportSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._paths = [record.image_path for record in records]
        self._pids = [record.pid for record in records]
        self._images_of: dict[int, list[int]] = {}
        self._captions_of: list[range] = []
        self._image_of: list[int] = []
        for image, record in enumerate(records):
            self._images_of.setdefault(record.pid, []).append(image)
            first = len(self._image_of)
            self._captions_of.append(range(first, first + len(record.captions)))
            self._image_of += [image] * len(record.captions)

    def for_pair(self, key: SampleKey) -> SupportSet:
        """Return the support set of a training pair; each epoch and repeat has its own draw."""
        number = (self._seed, key.epoch, key.pair, key.repeat)
        image_generator = keyed_generator(*number, _IMAGES)
        text_generator = keyed_generator(*number, _TEXTS)
        images = self._draw_images(self._image_of[key.pair], image_generator)
        if self._settings.paired:
            captions = self._one_caption_of_each(images, text_generator)
        else:
            captions = self._draw_captions(key.pair, text_generator)
        return SupportSet(images, captions)

    def for_split(self) -> SplitSupports:
        """Return a draw for every image and every caption; the same at each call."""
        images = [
            self._draw_images(image, keyed_generator(self._seed, image, _IMAGES))
            for image in range(len(self._captions_of))
        ]
        texts: list[tuple[int, ...]] = []
        for caption, image in enumerate(self._image_of):
            generator = keyed_generator(self._seed, caption, _TEXTS)
            if self._settings.paired:
                others = self._draw_images(image, generator)
                texts.append(self._one_caption_of_each(others, generator))
            else:
                texts.append(self._draw_captions(caption, generator))
        return SplitSupports(
            torch.tensor(images, dtype=torch.int64), torch.tensor(texts, dtype=torch.int64)
        )

    def _other_images(self, image: int) -> list[int]:
        siblings = self._images_of[self._pids[image]]
        return [other for other in siblings if self._paths[other] != self._paths[image]]

    def _draw_images(self, image: int, generator: torch.Generator) -> tuple[int, ...]:
        pool = self._other_images(image)
        return self._draw(pool, self._settings.num_images, generator)

    def _draw_captions(self, caption: int, generator: torch.Generator) -> tuple[int, ...]:
        image = self._image_of[caption]
        if self._settings.exclude_same_image_text:
            images = self._other_images(image)
        else:
            images = self._images_of[self._pids[image]]
        pool = [c for other in images for c in self._captions_of[other] if c != caption]
        return self._draw(pool, self._settings.num_texts, generator)

    def _one_caption_of_each(
        self, images: Sequence[int], generator: torch.Generator
    ) -> tuple[int, ...]:
        captions: list[int] = []
        draws = torch.rand(len(images), generator=generator).tolist()
        for image, draw in zip(images, draws, strict=True):
            if image == EMPTY:
                captions.append(EMPTY)
            else:
                pool = self._captions_of[image]
                captions.append(pool[int(draw * len(pool))])
        return tuple(captions)

    def _draw(
        self, pool: Sequence[int], number: int, generator: torch.Generator
    ) -> tuple[int, ...]:
        order = torch.randperm(len(pool), generator=generator).tolist()
        drawn = [pool[i] for i in order[:number]]
        missing = number - len(drawn)
        if missing and pool and self._settings.short != "pad":
            again = torch.randint(len(pool), (missing,), generator=generator).tolist()
            drawn += [pool[i] for i in again]
        return (*drawn, *[EMPTY] * (number - len(drawn)))


def with_several_images(records: Sequence[Record]) -> list[Record]:
    """Return the records of the identities that have more than one image, in their order."""
    files: dict[int, set[Path]] = {}
    for record in records:
        files.setdefault(record.pid, set()).add(record.image_path)
    return [record for record in records if len(files[record.pid]) > 1]
