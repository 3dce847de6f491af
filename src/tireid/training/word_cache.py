"""Cache the token features of a frozen text encoder before training."""

import warnings
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor, nn

from tireid.data.word_features import WordEncoder


def cache_words(cfg: DictConfig, datamodule: Any, text_encoder: nn.Module, trainer: Any) -> None:
    """Have batches carry the words of a frozen word encoder, as `cache_words` says.

    Args:
        cfg: A composed training config.
        datamodule: After `setup`.
        text_encoder: Its `embedding`, where it has one, is the word encoder.
        trainer: Tells on which device words are computed.

    Raises:
        ValueError: If `cache_words` is true where words change between steps.
        OSError: If it is true and the words cannot be kept on disk.
    """
    encoder: Any = getattr(text_encoder, "embedding", None)
    if cfg.cache_words is False:
        return
    if not getattr(encoder, "constant", False):
        if cfg.cache_words is True:
            raise ValueError(_words_change(text_encoder, encoder))
        return

    def encode(token_ids: Tensor, valid: Tensor) -> Tensor:
        device = trainer.strategy.root_device
        encoder.eval().to(device)
        return encoder(token_ids.to(device), valid.to(device)).local

    words = WordEncoder(encode, encoder.out_dim, encoder.fingerprint())
    training = encoder.training
    try:
        datamodule.cache_words(words, cfg.cache_words_dtype)
    except OSError as error:
        if cfg.cache_words is True:
            raise
        warnings.warn(f"words are computed in every step: {error}", stacklevel=2)
        return
    finally:
        encoder.train(training).to("cpu")
    if trainer.is_global_zero:
        tables = datamodule.words
        mib = sum(table.num_bytes for table in tables.values()) / 2**20
        found = [f"{split} {'found' if t.found else 'computed'}" for split, t in tables.items()]
        Console(highlight=False, soft_wrap=True).print(
            f"words of the frozen {type(encoder).__name__}: {mib:,.1f} MiB in "
            f"{next(iter(tables.values())).folder.parent} ({', '.join(found)})",
            markup=False,
        )


def _words_change(text_encoder: nn.Module, encoder: Any) -> str:
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
