"""Token features of a frozen encoder: computed once for all captions of a split, kept on disk."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from tireid.data.word_table import (
    WORDS_FILE,
    Facts,
    WordTable,
    WordType,
    fault_of,
    num_bytes,
    write_facts,
)
from tireid.files import build_once

_FORMAT = 1
_TOKENS_AT_ONCE = 8192
_WHAT_TO_DO = (
    "choose another folder with paths.cache_dir=FOLDER, halve the table with "
    "cache_words_dtype=float16, or have the features computed in every step with cache_words=false"
)


class WordEncoder(NamedTuple):
    """A frozen token encoder.

    Attributes:
        encode: Token ids and validity to token features. The features of a caption must not change
            between calls, nor with the captions beside it.
        width: Width of a token's features.
        fingerprint: A hash of the weights and of all else that the features depend on.
    """

    encode: Callable[
        [Int[Tensor, "batch length"], Bool[Tensor, "batch length"]],
        Float[Tensor, "batch length width"],
    ]
    width: int
    fingerprint: str


def word_table(
    encoder: WordEncoder,
    token_ids: Sequence[list[int]],
    cache_dir: Path,
    *,
    dtype: WordType = "float32",
    progress: bool = True,
) -> WordTable:
    """Return the table of these captions, computed first if it is missing or damaged.

    Captions are encoded in batches of one length, so without padding: a row is what the encoder
    gives for the caption alone. A batch padded by other captions differs from it by rounding,
    about 1e-7 of the largest feature in float32. Processes that ask at the same time get the same
    table, computed by one of them (see `files.build_once`).

    Args:
        encoder: The frozen encoder.
        token_ids: Ids of all captions of a split, in their order.
        cache_dir: The table is kept in its folder `words`, under a hash of the encoder, the ids and
            the type.
        dtype: `float32` keeps the features as they are; `float16` rounds them to 11 bits and halves
            the table.
        progress: Whether to show on standard error what is computed, and how far it is.

    Raises:
        ValueError: If a feature is not finite, or too large for `float16`.
        OSError: If there is no room or the folder cannot be written; says how much is needed, how
            much there is, and what to set.
    """
    facts: Facts = {
        "format": _FORMAT,
        "encoder": encoder.fingerprint,
        "dtype": dtype,
        "byteorder": sys.byteorder,
        "captions": len(token_ids),
        "tokens": sum(len(ids) for ids in token_ids),
        "width": encoder.width,
    }
    folder = cache_dir / "words" / _key(facts, token_ids)
    console = Console(stderr=True, quiet=not progress, highlight=False, soft_wrap=True)
    fault = fault_of(folder, facts)
    built = False
    if fault is not None:
        if folder.is_dir():
            console.print(f"{folder} is damaged and computed again: {fault}", markup=False)
        try:
            built = build_once(
                folder,
                partial(
                    _compute, facts=facts, encoder=encoder, captions=token_ids, console=console
                ),
                is_whole=lambda table: fault_of(table, facts) is None,
                on_wait=lambda: console.print(
                    f"Another process computes {folder}; waiting for it.", markup=False
                ),
                only_such_beside=True,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                f"the token features of {len(token_ids):,} captions cannot be kept in "
                f"{folder.parent}: {reason}; {_WHAT_TO_DO}"
            ) from error
    lengths = [len(ids) for ids in token_ids]
    return WordTable(folder, lengths, encoder.width, dtype, found=not built)


def _key(facts: Facts, token_ids: Sequence[list[int]]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for ids in token_ids:
        digest.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
    return digest.hexdigest()


def _compute(
    folder: Path,
    *,
    facts: Facts,
    encoder: WordEncoder,
    captions: Sequence[list[int]],
    console: Console,
) -> None:
    """Fill an empty folder with the table of some captions."""
    needed, free = num_bytes(facts), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"expected {needed / 2**30:.2f} GiB free, got {free / 2**30:.2f} GiB")
    console.print(
        f"Encoding {len(captions):,} captions once, into {needed / 2**20:,.1f} MiB "
        f"in {folder.parent}",
        markup=False,
    )
    starts = np.cumsum([0, *(len(ids) for ids in captions)])
    row_bytes = facts["width"] * np.dtype(facts["dtype"]).itemsize
    hidden = console.quiet or not console.is_terminal
    with (
        (folder / WORDS_FILE).open("wb") as file,
        torch.inference_mode(),
        Progress(console=console, transient=True, disable=hidden) as bar,
    ):
        task = bar.add_task("Encoding captions", total=int(starts[-1]))
        for positions in _batches(captions):
            token_ids = torch.tensor([captions[position] for position in positions])
            features = encoder.encode(token_ids, torch.ones_like(token_ids, dtype=torch.bool))
            for position, row in zip(positions, _stored(features, facts["dtype"]), strict=True):
                # Written rather than mapped: a full disk is an error then, not a dead process.
                file.seek(int(starts[position]) * row_bytes)
                file.write(row.tobytes())
            bar.advance(task, token_ids.numel())
    write_facts(folder, facts)


def _stored(features: Tensor, dtype: str) -> np.ndarray:
    """Return features as a table stores them; refuse those that its type cannot hold."""
    stored = features.to(dtype=getattr(torch, dtype), device="cpu")
    if not bool(stored.isfinite().all()):
        raise ValueError(
            f"token features: expected finite numbers that {dtype} can hold, got "
            f"{float(features.abs().max())}; set cache_words_dtype=float32 or cache_words=false"
        )
    return stored.numpy()


def _batches(token_ids: Sequence[list[int]]) -> Iterator[list[int]]:
    """Yield positions of captions of one length, the longest first: they need the most memory."""
    of_length: dict[int, list[int]] = {}
    for caption, ids in enumerate(token_ids):
        if ids:
            of_length.setdefault(len(ids), []).append(caption)
    for length, captions in sorted(of_length.items(), reverse=True):
        size = max(1, _TOKENS_AT_ONCE // length)
        for first in range(0, len(captions), size):
            yield captions[first : first + size]
