"""Tokenizers of captions: from a model hub, trained here, or saved with a run.

All use the `tokenizers` library and are saved as its `tokenizer.json`: data, never code.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tireid.data.mended_captions import mend_captions
from tireid.data.tokenizer_files import (
    SETTINGS_FILE,
    VOCABULARY_FILE,
    check_pretrained_files,
    ids_of,
    panics_as_errors,
    read_tokenizer_files,
)
from tireid.files import write_json, write_text

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_SMALLEST_VOCABULARY = 100
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


_Token = TypeVar("_Token")


class TokenPlace(NamedTuple):
    """Place of a token in its caption.

    Attributes:
        start: Position of its first character.
        end: Position after its last character; equals `start` for special tokens.
        word: Number of the word that it is a piece of; None for special tokens.
    """

    start: int
    end: int
    word: int | None


class CaptionTokenizer:
    """A vocabulary, a length limit and a padding id: what all tokenizers have, and a saved one is.

    Args:
        max_length: Most ids of a caption, start and end token included; at least 3.
        keep_sep: Whether a caption that is cut keeps its end token. LGUR's release cuts to the
            first `max_length` ids, so that a longer caption loses it: False. CLIP reads its text
            feature there: True.
        pad_id: Id that pads a batch.
        vocab_size: Number of embeddings that a text encoder needs; None: the vocabulary's.
        backend: The vocabulary; None: learnt or loaded later.

    Raises:
        ValueError: If `max_length` leaves no room for a word.
    """

    def __init__(
        self,
        max_length: int,
        *,
        keep_sep: bool = True,
        pad_id: int = 0,
        vocab_size: int | None = None,
        backend: Tokenizer | None = None,
    ) -> None:
        if max_length < 3:
            raise ValueError(f"max_length: expected at least 3 ids, got {max_length}")
        self.max_length = max_length
        self.keep_sep = keep_sep
        self._pad_id = pad_id
        self._vocab_size = vocab_size
        self._tokenizer = backend

    @property
    def is_fitted(self) -> bool:
        """Whether captions can be turned into ids without calling `fit` before."""
        return self._tokenizer is not None

    @property
    def pad_id(self) -> int:
        """Id that pads a batch; may also be a real token's (CLIP), so it is no mask."""
        return self._pad_id

    @property
    def vocab_size(self) -> int:
        """Number of embeddings that a text encoder needs: all ids are below it."""
        return self._vocab_size or self._backend().get_vocab_size()

    def fit(self, captions: Sequence[str]) -> None:
        """Learn a vocabulary; does nothing if the tokenizer has one."""

    def __call__(self, captions: Sequence[str]) -> list[list[int]]:
        """Return the ids of each caption, with start and end token, cut to `max_length`."""
        return self.encode(captions)[0]

    def encode(self, captions: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Return the ids of each caption, and how many they were before they were cut."""
        with panics_as_errors():
            encodings = self._backend().encode_batch_fast(list(captions))
        ids = [encoding.ids for encoding in encodings]
        return [self._cut(whole) for whole in ids], [len(whole) for whole in ids]

    def places(self, caption: str) -> list[TokenPlace]:
        """Return the place in a caption of each of its ids."""
        with panics_as_errors():
            encoding = self._backend().encode(caption)
        spans = zip(encoding.offsets, encoding.word_ids, strict=True)
        return self._cut([TokenPlace(start, end, word) for (start, end), word in spans])

    def fingerprint(self) -> str:
        """Return a SHA-256 of the vocabulary and of how captions are cut into its pieces."""
        return hashlib.sha256(self._backend().to_str().encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the vocabulary and the settings into a folder, for `load_tokenizer`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / VOCABULARY_FILE, self._backend().to_str(pretty=True))
        settings = {
            "max_length": self.max_length,
            "keep_sep": self.keep_sep,
            "pad_id": self.pad_id,
            "vocab_size": self.vocab_size,
        }
        write_json(folder / SETTINGS_FILE, settings)

    def _backend(self) -> Tokenizer:
        if self._tokenizer is None:
            raise ValueError("expected a trained vocabulary; call fit(captions) first")
        return self._tokenizer

    def _cut(self, ids: list[_Token]) -> list[_Token]:
        if len(ids) <= self.max_length:
            return ids
        return [*ids[: self.max_length - 1], ids[-1]] if self.keep_sep else ids[: self.max_length]


class TrainedWordPiece(CaptionTokenizer):
    """A WordPiece vocabulary learnt from the training captions; needs no download.

    Args:
        vocab_size: Largest number of word pieces, and of embeddings; few captions fill fewer.
        max_length: Most ids of a caption, start and end token included.
        lowercase: Whether to lower-case captions and strip accents.
        keep_sep: Whether a caption that is cut keeps its end token.

    Raises:
        ValueError: If there is no room for anything but special tokens.
    """

    def __init__(
        self,
        vocab_size: int = 2000,
        max_length: int = 100,
        *,
        lowercase: bool = True,
        keep_sep: bool = True,
    ) -> None:
        pad_id = _SPECIAL.index("[PAD]")
        super().__init__(max_length, keep_sep=keep_sep, pad_id=pad_id, vocab_size=vocab_size)
        if vocab_size < _SMALLEST_VOCABULARY:
            raise ValueError(f"vocab_size: expected >= {_SMALLEST_VOCABULARY}, got {vocab_size}")
        self._lowercase = lowercase

    def fit(self, captions: Sequence[str]) -> None:
        """Learn the vocabulary; the same captions give the same one."""
        if not captions:
            raise ValueError("expected training captions to learn a vocabulary from, got none")
        tokenizer = _word_piece({})
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=self._lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # A character takes two pieces, at the start of a word and later in it: with a quarter of
        # the room for characters, a corpus of many scripts does not exceed `vocab_size`.
        characters = _frequent_characters(captions, tokenizer, self.vocab_size // 4)
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocab_size,
            # The trainer numbers later pieces in the order of its hash table, which differs between
            # processes, and breaks ties by number: given beforehand, they have fixed numbers.
            special_tokens=[*_SPECIAL, *(f"##{character}" for character in characters)],
            initial_alphabet=characters,
            limit_alphabet=len(characters),
            show_progress=False,
        )
        tokenizer.train_from_iterator(captions, trainer)
        # A new tokenizer of this vocabulary, in which those pieces are no special tokens.
        trained = _word_piece(tokenizer.get_vocab())
        trained.normalizer = tokenizer.normalizer
        trained.pre_tokenizer = tokenizer.pre_tokenizer
        trained.decoder = decoders.WordPiece()
        trained.add_special_tokens(list(_SPECIAL))
        trained.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            special_tokens=[(token, _SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
        )
        self._tokenizer = trained


class HubTokenizer(CaptionTokenizer):
    """The tokenizer of a pre-trained text encoder, such as BERT or CLIP; loaded on first use.

    Args:
        name_or_path: Name on the model hub, or a local folder that holds its files.
        max_length: Most ids of a caption, start and end token included. BERT as in LGUR: 100;
            CLIP: 77.
        keep_sep: Whether a caption that is cut keeps its end token.
        lowercase: Whether captions are lower-cased first. BERT's and CLIP's vocabularies do it
            themselves; SigLIP 2's does not, and its encoder knows lower case only: True.
        mended: Whether entities of HTML, curly quotes and ligatures are mended first, as the
            official code of CLIP does.
        revision: Branch, tag or commit on the hub.
    """

    def __init__(
        self,
        name_or_path: str,
        max_length: int = 100,
        *,
        keep_sep: bool = True,
        lowercase: bool = False,
        mended: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__(max_length, keep_sep=keep_sep)
        self._name_or_path = name_or_path
        self._lowercase, self._mended = lowercase, mended
        self._revision = revision

    @property
    def is_fitted(self) -> bool:
        """True: the vocabulary is the model's."""
        return True

    @property
    def pad_id(self) -> int:
        """The model's padding id."""
        self._backend()
        return self._pad_id

    @property
    def vocab_size(self) -> int:
        """One more than the largest id of the model's vocabulary, which may have gaps."""
        self._backend()
        return super().vocab_size

    def _backend(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer, self._pad_id = _from_hub(self._name_or_path, self._revision)
            ids = ids_of(self._tokenizer, self._name_or_path)
            self._vocab_size = max(self._pad_id, *ids) + 1
            if self._lowercase:
                _lowercase(self._tokenizer)
            if self._mended:
                mend_captions(self._tokenizer)
        return self._tokenizer


def load_tokenizer(folder: Path) -> CaptionTokenizer:
    """Restore any tokenizer of this module from what its `save` wrote; needs no network.

    Raises:
        FileNotFoundError: If the folder lacks one of the two files.
        ValueError: If one of them cannot be read, or holds what could stop the process.
    """
    settings, backend = read_tokenizer_files(folder)
    try:
        return CaptionTokenizer(**settings, backend=backend)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / SETTINGS_FILE}: {error}") from error


def _from_hub(name_or_path: str, revision: str | None) -> tuple[Tokenizer, int]:
    """Return the vocabulary and the padding id of a pre-trained model."""
    from transformers import AutoTokenizer  # takes seconds to import

    def load(*, local_files_only: bool) -> Any:
        return AutoTokenizer.from_pretrained(
            name_or_path,
            revision=revision or "main",
            trust_remote_code=False,
            local_files_only=local_files_only,
        )

    if is_folder := Path(name_or_path).is_dir():
        check_pretrained_files(Path(name_or_path))
    try:
        try:
            # Cached files are used without asking the hub, which offline would retry for long.
            with panics_as_errors():
                tokenizer = load(local_files_only=True)
        except (OSError, ValueError):
            if is_folder:
                raise
            tokenizer = load(local_files_only=False)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(_unavailable(name_or_path, is_folder)) from error
    except ImportError:
        raise
    except Exception as error:  # The library raises bare exceptions for malformed files.
        raise ValueError(f"{name_or_path}: expected a tokenizer, got {error!r:.300}") from error
    # Without a vocabulary file, transformers makes an empty one: every word unknown.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise FileNotFoundError(_unavailable(name_or_path, is_folder))
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend, tokenizer.pad_token_id or 0


def _lowercase(tokenizer: Tokenizer) -> None:
    """Let a tokenizer lower-case captions before all else."""
    then = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *then])


def _word_piece(vocabulary: dict[str, int]) -> Tokenizer:
    return Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  a word piece


def _frequent_characters(captions: Sequence[str], tokenizer: Tokenizer, count: int) -> list[str]:
    """Return the most frequent characters, ties in the order of their code points."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(tokenizer.normalizer.normalize_str(caption))
    words = [character for character in counts if not character.isspace()]
    return sorted(words, key=lambda character: (-counts[character], character))[:count]


def _unavailable(name_or_path: str, is_folder: bool) -> str:
    if is_folder:
        held = ", ".join(sorted(path.name for path in Path(name_or_path).iterdir())) or "nothing"
        return (
            f"{name_or_path}: expected a tokenizer's files (tokenizer.json, or config.json with"
            f" vocab.txt or vocab.json and merges.txt), got {held}"
        )
    offline = [f"{name}={os.environ[name]}" for name in _OFFLINE_VARIABLES if name in os.environ]
    reason = f"; {' and '.join(offline)} forbids downloads" if offline else ""
    return (
        f"tokenizer {name_or_path!r}: neither a local folder, nor in the hub's cache, nor available"
        f" from the hub{reason}. Give a folder that holds tokenizer.json:"
        " text_encoder.tokenizer.name_or_path=DIR"
    )
