"""Mask words of captions, to be predicted from the image and the other words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tireid.structures import MaskedWords, TokenIds


@dataclass(frozen=True, slots=True)
class WordMasking:
    """Replaces some words of a caption by a mask, a random word or themselves, and labels them.

    A caption without a chosen word has its second id masked, the first word.

    Attributes:
        mask_id: Id that stands for a masked word.
        first_word: Smallest id that is a word: special tokens and padding are below it.
        end_word: Smallest id after the words.
        num_ids: Number of ids that a prediction chooses from.
        probability: Share of the words that are chosen.
        masked_share: Share of the chosen that become the mask.
        random_share: Share of the chosen that become a random word; the rest stay as they are.

    Source:
        IRRA's official code: 0.15, 0.8 and 0.1, one draw a word and another a random word, in the
        order of the caption. Here: both are drawn for each id, so that no draw depends on others.
    """

    mask_id: int
    first_word: int
    end_word: int
    num_ids: int
    probability: float = 0.15
    masked_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        numbers = (self.mask_id, self.first_word, self.end_word, self.num_ids)
        if not all(isinstance(number, int) for number in numbers):
            raise ValueError(
                "masking: expected mask_id, first_word, end_word and num_ids of the text encoder's "
                f"vocabulary, got {numbers}; set them in text_encoder.words"
            )
        if not 0 <= self.first_word < self.end_word <= self.num_ids > self.mask_id >= 0:
            raise ValueError(
                "masking: expected 0 <= first_word < end_word <= num_ids and mask_id below "
                f"num_ids, got {self.first_word}, {self.end_word}, {self.num_ids}, {self.mask_id}"
            )
        shares = (self.probability, self.masked_share, self.random_share)
        if not all(0 <= share <= 1 for share in shares) or sum(shares[1:]) > 1 + 1e-9:
            raise ValueError(
                "masking: expected probability, masked_share and random_share in [0, 1], the last "
                f"two at most 1 together, got {shares}"
            )

    def draw(self, ids: Sequence[int], generator: torch.Generator) -> list[list[float]]:
        """Return what `mask` needs for a caption: numbers in [0, 1), twice as many as ids."""
        return torch.rand(2, len(ids), generator=generator).tolist()

    def mask(
        self, ids: Sequence[int], choices: Sequence[float], words: Sequence[float]
    ) -> tuple[list[int], list[int]]:
        """Return the ids with some words masked, and the positions of the chosen words.

        Args:
            ids: Of a caption, start and end token included.
            choices: A number in [0, 1) for each id: which words are chosen, and what they become.
            words: A number in [0, 1) for each id: which random word it would become.
        """
        masked, chosen = list(ids), list[int]()
        for position, (word, choice) in enumerate(zip(ids, choices, strict=True)):
            if not self.first_word <= word < self.end_word or choice >= self.probability:
                continue
            chosen.append(position)
            share = choice / self.probability
            if share < self.masked_share:
                masked[position] = self.mask_id
            elif share < self.masked_share + self.random_share:
                count = self.end_word - self.first_word
                masked[position] = self.first_word + int(words[position] * count)
        if not chosen:
            position = min(1, len(ids) - 1)
            masked[position], chosen = self.mask_id, [position]
        return masked, chosen

    def batch(
        self,
        captions: Sequence[list[int]],
        draws: Sequence[Sequence[Sequence[float]]],
        padded: TokenIds,
    ) -> MaskedWords:
        """Return a batch of captions with masked words.

        Args:
            captions: Ids of each caption.
            draws: Of each caption, from `draw`.
            padded: The same captions, padded.
        """
        token_ids, rows, positions = padded.clone(), list[int](), list[int]()
        for row, (ids, (choices, words)) in enumerate(zip(captions, draws, strict=True)):
            masked, chosen = self.mask(ids, choices, words)
            token_ids[row, : len(ids)] = torch.tensor(masked)
            rows += [row] * len(chosen)
            positions += chosen
        places = torch.tensor(rows), torch.tensor(positions)
        return MaskedWords(token_ids, *places, padded[places])
