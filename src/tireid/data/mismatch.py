"""Synthetic noise: training captions that belong to other images."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from tireid.data.records import Record, captions_of, translations_of
from tireid.data.transforms import check_share, keyed_generator
from tireid.runs.foreign import regular_file

_NOISE = int.from_bytes(b"noise", "big")  # separates these draws from others of the seed


def mismatched(records: Sequence[Record], noise: float | str, seed: int) -> list[Record]:
    """Return records some of whose captions are exchanged; images and identities stay.

    Args:
        records: Of the training split; a pair is a caption with its image, in their order.
        noise: Share of the pairs that are drawn, whose captions are shuffled among them, so that
            few keep theirs; or a file of numpy that holds for each pair the number of the pair
            whose caption it takes, as those of the official code.
        seed: Key of the draw.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no order of the pairs, or the share is none.

    Source:
        RDE, CVPR 2024: shares of 0.2, 0.5 and 0.8, by the files `noiseindex/SET_SHARE.npy` of its
        code, QinYang79/RDE at b3fd396.
    """
    captions = list(zip(captions_of(records), translations_of(records), strict=True))
    if isinstance(noise, str):
        order = _read_order(Path(noise), len(captions))
    else:
        check_share("noise", noise)
        generator = keyed_generator(seed, _NOISE)
        drawn = torch.randperm(len(captions), generator=generator)[: round(noise * len(captions))]
        shuffled = drawn[torch.randperm(len(drawn), generator=generator)]
        order = torch.arange(len(captions))
        order[drawn] = shuffled
        order = order.tolist()
    exchanged = iter([captions[number] for number in order])
    return [_described(record, list(islice(exchanged, len(record.captions)))) for record in records]


def _described(record: Record, captions: list[tuple[str, str]]) -> Record:
    """Return a record with other captions, each with its translation."""
    texts, translations = zip(*captions, strict=True)
    return replace(record, captions=texts, translations=translations if any(translations) else ())


def _read_order(file: Path, count: int) -> list[int]:
    if not file.exists():
        raise FileNotFoundError(f"noise: expected a share or a file of numpy, got {file}")
    try:
        found = np.load(regular_file(file), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file}: expected an array of numpy ({type(error).__name__})") from error
    if getattr(found, "shape", None) != (count,) or found.dtype.kind not in "iu":
        what = f"{getattr(found, 'dtype', type(found).__name__)} {getattr(found, 'shape', '')}"
        raise ValueError(
            f"{file}: expected whole numbers, one for each of {count} pairs, got {what}"
        )
    order = found.tolist()
    if sorted(order) != list(range(count)):
        raise ValueError(f"{file}: expected each number of 0 to {count - 1} once")
    return order
