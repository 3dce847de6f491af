"""The token ids of the captions of each split, encoded once, and what is cut of them."""

from collections.abc import Mapping, Sequence

from tireid.data.records import Record, captions_of
from tireid.data.tokenizers import CaptionTokenizer


class EncodedCaptions:
    """Token ids by split.

    Args:
        tokenizer: Turns captions into ids.
    """

    def __init__(self, tokenizer: CaptionTokenizer) -> None:
        self._tokenizer = tokenizer
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
