"""Cache the token features of a frozen text encoder before training."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from tireid.console import say
from tireid.data.datamodule import TireidDataModule
from tireid.data.word_features import WordEncoder
from tireid.data.word_table import WordTable, WordType


def cache_words(
    wanted: bool | Literal["auto"],
    dtype: WordType,
    datamodule: TireidDataModule,
    text_encoder: nn.Module,
    trainer: Any,
) -> None:
    """Have batches carry the token features of a frozen word encoder.

    Args:
        wanted: Setting `cache_words`: "auto" is True where the features never change.
        dtype: Type of the numbers in the cache.
        datamodule: Data module after `setup`.
        text_encoder: Text encoder whose `embedding`, if it has one, is the word encoder.
        trainer: Trainer whose device computes the features.

    Raises:
        ValueError: If `wanted` is True and the features change between steps, or nothing is kept
            for which a type was chosen.
        OSError: If it is True and the features cannot be kept on disk.
    """
    encoder: Any = getattr(text_encoder, "embedding", None)
    constant = getattr(encoder, "constant", False)
    if wanted is True and not constant:
        raise ValueError(_not_constant(text_encoder, encoder))
    if wanted is False or not constant:
        if dtype != "float32":
            raise ValueError(
                f"cache_words_dtype: does nothing where no token features are kept, got {dtype}; "
                "set cache_words_dtype=float32"
            )
        return

    def encode(token_ids: Tensor, valid: Tensor) -> Tensor:
        device = trainer.strategy.root_device
        encoder.eval().to(device)
        return encoder(token_ids.to(device), valid.to(device)).local

    words = WordEncoder(encode, encoder.out_dim, encoder.fingerprint())
    training = encoder.training
    try:
        datamodule.cache_words(words, dtype)
    except OSError as error:
        if wanted is True:
            raise
        warnings.warn(f"token features are computed in every step: {error}", stacklevel=2)
        return
    finally:
        encoder.train(training).to("cpu")
    if trainer.is_global_zero:
        say(_summary(datamodule.words, type(encoder).__name__))


def _summary(tables: Mapping[str, WordTable], encoder: str) -> str:
    mib = sum(table.num_bytes for table in tables.values()) / 2**20
    folder = next(iter(tables.values())).folder.parent
    states = [f"{split} {'found' if t.found else 'computed'}" for split, t in tables.items()]
    return (
        f"token features of the frozen {encoder}: {mib:,.1f} MiB in {folder} ({', '.join(states)})"
    )


def _not_constant(text_encoder: nn.Module, encoder: Any) -> str:
    if encoder is None:
        got = f"{type(text_encoder).__name__}, which has no word encoder inside"
    elif not getattr(encoder, "frozen", False):
        got = f"{type(text_encoder).__name__} over {type(encoder).__name__}, which is trained"
    else:
        got = f"{type(text_encoder).__name__} over a frozen {type(encoder).__name__} with dropout"
    return (
        "cache_words=true: expected a text encoder over a frozen word encoder without dropout "
        f"(text_encoder=bert_bilstm), got {got}; set cache_words=auto"
    )
