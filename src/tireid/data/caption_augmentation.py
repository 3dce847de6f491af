"""Augment captions: take their translations, or mask, replace or delete word pieces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tireid.data.transforms import check_share

_MASKED, _REPLACED = 0.6, 0.8  # of the changed pieces: masked, replaced up to, else deleted


@dataclass(frozen=True, slots=True)
class BackTranslation:
    """Takes the translation of a caption into another language and back in its place.

    Attributes:
        token_ids: Ids of the translation of each caption; empty where there is none.
        probability: Of taking it, in [0, 1].

    Source:
        TBPS-CLIP, AAAI 2024, code Flame-Chasers/TBPS-CLIP: 0.1, read from the field `captions_bt`.
    """

    token_ids: Sequence[list[int]]
    probability: float

    def __call__(self, caption: int, ids: list[int], generator: torch.Generator) -> list[int]:
        """Return the ids of a caption or of its translation.

        Args:
            caption: Position of the caption.
            ids: Those of the caption.
            generator: Source of the one draw.
        """
        is_taken = torch.rand(1, generator=generator).item() < self.probability
        return (self.token_ids[caption] if is_taken else []) or ids


@dataclass(frozen=True, slots=True)
class CaptionAugmentation:
    """Changes some word pieces of a caption; start, end and other special tokens stay.

    Attributes:
        probability: Of changing a piece. Of those 60 % are masked, 20 % become any other piece, and
            20 % are deleted; what follows moves up.
        mask_id: Id that stands for a masked piece.
        first_word: Smallest id of a piece that is changed, or drawn.
        end_word: Smallest id above them.

    Raises:
        ValueError: If the ids are not those of a vocabulary.

    Source:
        RDE, CVPR 2024, code QinYang79/RDE at b3fd396: 0.2, and CLIP's ids from 1 to 49404.
    """

    probability: float
    mask_id: int
    first_word: int
    end_word: int

    def __post_init__(self) -> None:
        check_share("word_probability", self.probability)
        if not 0 <= self.first_word < self.end_word or self.mask_id < 0:
            raise ValueError(
                "text_encoder.words: expected 0 <= first_word < end_word and mask_id >= 0, got "
                f"{self.first_word}, {self.end_word} and {self.mask_id}"
            )

    def __call__(self, ids: list[int], generator: torch.Generator) -> list[int]:
        """Return an augmented caption; the number of draws depends on its length alone."""
        draws = torch.rand(len(ids), generator=generator)
        others = torch.randint(self.first_word, self.end_word, (len(ids),), generator=generator)
        return self.changed(ids, draws, others.tolist())

    def changed(
        self, ids: Sequence[int], draws: Float[Tensor, " length"], others: Sequence[int]
    ) -> list[int]:
        """Return a caption as given draws change it.

        Args:
            ids: The caption.
            draws: Uniform in [0, 1), one a position.
            others: What the piece at each position becomes if it is replaced.
        """
        kept: list[int] = []
        for piece, draw, other in zip(ids, draws.tolist(), others, strict=True):
            if not self.first_word <= piece < self.end_word or draw >= self.probability:
                kept.append(piece)
            elif draw < _MASKED * self.probability:
                kept.append(self.mask_id)
            elif draw < _REPLACED * self.probability:
                kept.append(other)
        return kept


def caption_augmentation(
    probability: float, word_ids: Mapping[str, int] | None
) -> CaptionAugmentation | None:
    """Return what changes captions; None if the probability is 0.

    Args:
        probability: Of changing a piece.
        word_ids: `mask_id`, `first_word` and `end_word` of the text encoder's vocabulary.

    Raises:
        ValueError: If the probability is none, or the ids are missing.
    """
    check_share("word_probability", probability)
    if probability == 0:
        return None
    names = ("mask_id", "first_word", "end_word")
    if word_ids is None or any(not isinstance(word_ids.get(name), int) for name in names):
        raise ValueError(
            f"word_probability: expected {', '.join(names)} in text_encoder.words, got {word_ids}; "
            "set them, or word_probability=0"
        )
    return CaptionAugmentation(probability, *(word_ids[name] for name in names))
