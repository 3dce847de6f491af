"""Words of a frozen encoder: computed once for all captions of a split, read from disk after that.

A table (`tireid.data.word_table`) is written under another name and moved to its place whole.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
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
from tireid.files import folder_lock

_FORMAT = 1
_TOKENS_AT_ONCE = 8192
# Without a lock, a temporary folder untouched for this long belongs to nobody.
_ABANDONED_SECONDS = 6 * 3600.0
_WHAT_TO_DO = (
    "choose another folder with paths.cache_dir=FOLDER, halve the table with "
    "cache_words_dtype=float16, or have the words computed in every step with cache_words=false"
)


class WordEncoder(NamedTuple):
    """A frozen encoder of words, as a table needs it.

    Attributes:
        encode: Token ids and validity to word features. A caption must give the same whenever it
            is asked for, and whatever stands beside it.
        width: Length of a word's feature.
        fingerprint: Names the weights and all else that the features depend on.
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
    """Return the table of these captions, computed first if it is not there or damaged.

    Captions are encoded in batches of one length, so without padding: a row is what the encoder
    gives for the caption alone. A batch padded by other captions differs from it by rounding,
    about 1e-7 of the largest feature in float32.

    Processes that ask at the same time get the same table, computed by one of them. One that is
    killed, at whatever moment, leaves nothing that is taken for a table; the next removes it.

    Args:
        encoder: The frozen encoder.
        token_ids: Ids of all captions of a split, in their order.
        cache_dir: The table is kept below its folder `words`, under a name that hashes the encoder,
            the ids and the type.
        dtype: `float32` keeps the features as they are; `float16` rounds them to 11 bits and halves
            the table.
        progress: Whether to say on standard error what is computed, and how far it is.

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
    final = cache_dir / "words" / _key(facts, token_ids)
    console = Console(stderr=True, quiet=not progress, highlight=False, soft_wrap=True)
    found = fault_of(final, facts) is None
    if not found:
        try:
            found = _ensure(final, facts, encoder, token_ids, console)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                f"the words of {len(token_ids):,} captions cannot be kept in {final.parent}: "
                f"{reason}; {_WHAT_TO_DO}"
            ) from error
    return WordTable(final, [len(ids) for ids in token_ids], encoder.width, dtype, found=found)


def _key(facts: Facts, token_ids: Sequence[list[int]]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for ids in token_ids:
        digest.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
    return digest.hexdigest()


def _ensure(
    final: Path,
    facts: Facts,
    encoder: WordEncoder,
    token_ids: Sequence[list[int]],
    console: Console,
) -> bool:
    """Compute a table unless somebody else has just done so; return whether somebody has."""
    final.parent.mkdir(parents=True, exist_ok=True)

    def say() -> None:
        console.print(f"Another process computes {final}; waiting for it.", markup=False)

    with folder_lock(final.with_name(f".{final.name}.lock"), on_wait=say) as alone:
        fault = fault_of(final, facts)
        if fault is None:
            return True
        if final.is_dir():
            console.print(f"{final} is damaged and computed anew: {fault}", markup=False)
        _remove_remains(final, alone=alone)
        work = final.with_name(f"{final.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        work.mkdir()
        try:
            _compute(work / WORDS_FILE, facts, encoder, token_ids, console)
            write_facts(work, facts)
            _publish(work, final, facts)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return False


def _compute(
    path: Path,
    facts: Facts,
    encoder: WordEncoder,
    token_ids: Sequence[list[int]],
    console: Console,
) -> None:
    needed, free = num_bytes(facts), shutil.disk_usage(path.parent).free
    if free < needed:
        raise OSError(f"expected {needed / 2**30:.2f} GiB free, got {free / 2**30:.2f} GiB")
    console.print(
        f"Encoding {len(token_ids):,} captions once, into {needed / 2**20:,.1f} MiB "
        f"in {path.parents[1]}",
        markup=False,
    )
    starts = np.cumsum([0, *(len(ids) for ids in token_ids)])
    row_bytes = facts["width"] * np.dtype(facts["dtype"]).itemsize
    hidden = console.quiet or not console.is_terminal
    with (
        path.open("wb") as file,
        torch.inference_mode(),
        Progress(console=console, transient=True, disable=hidden) as bar,
    ):
        task = bar.add_task("Encoding captions", total=int(starts[-1]))
        for captions in _batches(token_ids):
            ids = torch.tensor([token_ids[caption] for caption in captions])
            words = encoder.encode(ids, torch.ones_like(ids, dtype=torch.bool))
            stored = words.to(dtype=getattr(torch, facts["dtype"]), device="cpu")
            if not bool(stored.isfinite().all()):
                raise ValueError(
                    f"word features: expected finite numbers that {facts['dtype']} can hold, "
                    f"got {float(words.abs().max())}; "
                    "set cache_words_dtype=float32 or cache_words=false"
                )
            for caption, row in zip(captions, stored.numpy(), strict=True):
                # Written rather than mapped: a full disk is an error then, not a dead process.
                file.seek(int(starts[caption]) * row_bytes)
                file.write(row.tobytes())
            bar.advance(task, ids.numel())
        file.flush()
        os.fsync(file.fileno())


def _batches(token_ids: Sequence[list[int]]) -> Iterator[list[int]]:
    """Yield positions of captions of one length, the longest first: memory is short at once."""
    of_length: dict[int, list[int]] = {}
    for caption, ids in enumerate(token_ids):
        if ids:
            of_length.setdefault(len(ids), []).append(caption)
    for length, captions in sorted(of_length.items(), reverse=True):
        size = max(1, _TOKENS_AT_ONCE // length)
        for first in range(0, len(captions), size):
            yield captions[first : first + size]


def _publish(work: Path, final: Path, facts: Facts) -> None:
    try:
        work.rename(final)
    except OSError:
        # Where there are no locks somebody else may have computed the same table first.
        if fault_of(final, facts) is not None:
            raise


def _remove_remains(final: Path, *, alone: bool) -> None:
    """Remove a damaged table, and what killed processes left of this one or, long ago, of any."""
    if final.is_dir():
        # Under its new name nobody finds it while it is removed.
        moved = final.with_name(f"{final.name}.tmp-damaged-{uuid.uuid4().hex[:8]}")
        final.rename(moved)
        shutil.rmtree(moved, ignore_errors=True)
    for folder in final.parent.glob("*.tmp-*"):
        with contextlib.suppress(OSError):
            touched = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            own = folder.name.startswith(final.name)
            if (alone and own) or time.time() - touched > _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
