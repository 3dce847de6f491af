"""Why an image is found: the words and the places that its score comes from.

A word or a place weighs what the score loses without it. That asks nothing of a model but its
embeddings, so it holds for every one.
"""

import time
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from tireid.inference.retriever import Retriever

_MOST_WORDS = 64
_GRIDS = ((8, 4), (6, 3), (4, 2))  # rows and columns, finest first
_SECONDS = 5.0


class Reasons(NamedTuple):
    """Where a score comes from.

    Attributes:
        score: Cosine similarity of image and query.
        words: What the score loses without each word; below 0: what it gains.
        seen: The image as the model takes it.
        places: What the score loses when a part of it is covered, rows from the top; None if the
            model is too slow for it.
    """

    score: float
    words: list[float]
    seen: UInt8[Tensor, "3 height width"]
    places: Float[Tensor, "rows columns"] | None


def without_each_word(sentence: str) -> tuple[list[str], list[str]]:
    """Return the words of a sentence, and the sentence without each of them.

    A sentence of one word has no rest, so there is none; of very long ones the first words count.
    """
    words = sentence.split()
    if len(words) < 2:
        return [], []
    chosen = range(min(len(words), _MOST_WORDS))
    return words[:_MOST_WORDS], [" ".join(words[:n] + words[n + 1 :]) for n in chosen]


def find_reasons(
    retriever: Retriever,
    image: Image.Image,
    query: Float[Tensor, " dim"],
    shortened: Float[Tensor, "words dim"],
    *,
    seconds: float = _SECONDS,
) -> Reasons:
    """Weigh the words of a query and the places of an image.

    Args:
        retriever: Embeds images.
        image: One person.
        query: The whole query, of unit norm.
        shortened: The query without each of its words.
        seconds: Time that the places may take: the grid is as fine as it allows.

    Raises:
        ValueError: If the image cannot be read.
    """
    seen = retriever.read_pixels(image)
    began = time.perf_counter()
    vector = retriever.encode_pixels(seen[None])[0]
    took = time.perf_counter() - began
    score = vector @ query
    places = None
    for rows, columns in _GRIDS:
        if rows * columns * took <= seconds:
            scores = retriever.encode_pixels(_covered(seen, rows, columns)) @ query
            places = (score - scores).view(rows, columns)
            break
    return Reasons(float(score), (score - shortened @ vector).tolist(), seen, places)


def _covered(
    seen: UInt8[Tensor, "3 height width"], rows: int, columns: int
) -> UInt8[Tensor, "places 3 height width"]:
    """Return copies with one place each in the mean colour of the image."""
    _, height, width = seen.shape
    colour = seen.float().mean(dim=(1, 2)).round().to(torch.uint8)[:, None, None]
    copies = seen.repeat(rows * columns, 1, 1, 1)
    for place, copy in enumerate(copies):
        row, column = divmod(place, columns)
        top, left = height * row // rows, width * column // columns
        copy[:, top : height * (row + 1) // rows, left : width * (column + 1) // columns] = colour
    return copies
