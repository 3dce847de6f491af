"""The token ids of captions and their translations, encoded once, and what is cut of them."""

from collections.abc import Mapping, Sequence

from tireid.data.caption_augmentation import BackTranslation
from tireid.data.records import Record, captions_of, translations_of
from tireid.data.tokenizers import CaptionTokenizer
from tireid.data.transforms import check_share


class EncodedCaptions:
    """Token ids by split.

    Args:
        tokenizer: Turns captions into ids.
        back_translation: Probability of taking the translation of a caption in training.

    Attributes:
        are_translated: Whether translations may be taken.

    Raises:
        ValueError: If the probability is none.
    """

    def __init__(self, tokenizer: CaptionTokenizer, back_translation: float = 0.0) -> None:
        check_share("back_translation", back_translation)
        self._tokenizer, self._probability = tokenizer, back_translation
        self.are_translated = back_translation > 0
        self._translation: BackTranslation | None = None
        self._ids: dict[str, list[list[int]]] = {}
        self._lengths: dict[str, list[int]] = {}

    def of(self, split: str, records: Sequence[Record]) -> list[list[int]]:
        """Return the ids of all captions of a split, in their order.

        Args:
            split: Its name.
            records: Its records, the same at each call.
        """
        if split not in self._ids:
            self._ids[split], self._lengths[split] = self._tokenizer.encode(captions_of(records))
        return self._ids[split]

    def fit(self, records: Sequence[Record]) -> None:
        """Learn a vocabulary from the captions of training, and from translations that are taken.

        Args:
            records: The training split.
        """
        translations = filter(None, translations_of(records) if self.are_translated else ())
        self._tokenizer.fit([*captions_of(records), *translations])

    def translation(self, records: Sequence[Record]) -> BackTranslation | None:
        """Return what takes translations in training; None if the probability is 0.

        Args:
            records: The training split, the same at each call.

        Raises:
            ValueError: If there are no translations.
        """
        if not self.are_translated or self._translation is not None:
            return self._translation
        texts = translations_of(records)
        if not any(texts):
            raise ValueError(
                f"dataset.back_translation={self._probability}: expected translations of training "
                "captions, in a field captions_bt or a table's column caption_bt, got none; set "
                "dataset.back_translation=0"
            )
        ids = zip(self._tokenizer.encode(texts)[0], texts, strict=True)
        of_each = [whole if text else [] for whole, text in ids]
        self._translation = BackTranslation(of_each, self._probability)
        return self._translation

    def cut(self, splits: Mapping[str, Sequence[Record]]) -> str:
        """Describe how many captions of each split are cut; empty if none is."""
        limit, parts, longest = self._tokenizer.max_length, list[str](), 0
        for split, records in splits.items():
            self.of(split, records)
            lengths = self._lengths[split]
            cut = sum(length > limit for length in lengths)
            parts.append(f"{split} {cut:,} of {len(lengths):,} ({100 * cut / len(lengths):.1f} %)")
            longest = max(longest, *lengths)
        if longest <= limit:
            return ""
        return (
            f"captions cut to {limit} tokens: {', '.join(parts)}; the longest has {longest}, and "
            f"text_encoder.tokenizer.max_length={longest} would cut none"
        )
