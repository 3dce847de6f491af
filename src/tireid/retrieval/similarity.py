"""Exact cosine similarity of embeddings, block by block, in any order of summation.

A matrix product rounds, and where it rounds depends on block size, threads and library. Two equal
gallery images can then differ in the last bit, and ties are broken at random. Here the arithmetic
is exact instead: unit vectors are rounded to multiples of 2**-26, so each product is a multiple of
2**-52, every partial sum stays below 2 (Cauchy-Schwarz), and float64 holds all such numbers. Any
order of summation gives the same bits. The rounding moves a similarity by about 1e-8, less than
float32 arithmetic does; and unlike a float32 product, this one is beyond the reach of TF32.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_GRID = 2.0**26
_SCORES = 2**24  # similarities at a time
_SHORTEST = 1e-12  # what is shorter is zero once it is normalised and rounded


class NoDirectionError(ValueError):
    """Embeddings are NaN, infinite or zero, which have no cosine and so no rank."""


def unit_vectors(embeddings: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    """L2-normalise rows and round them to multiples of 2**-26.

    Args:
        embeddings: Any float type; a row of zeros stays zero.

    Returns:
        A float64 copy, without gradient.
    """
    wide = embeddings.detach().to(torch.float64, copy=True, memory_format=torch.contiguous_format)
    F.normalize(wide, dim=-1, out=wide)
    return wide.mul_(_GRID).round_().div_(_GRID)


def check_embeddings(
    text_embeddings: Float[Tensor, "query dim"],
    image_embeddings: Float[Tensor, "gallery image_dim"],
    block_size: int,
) -> None:
    """Check that two sides can be compared.

    Raises:
        ValueError: If a side has not two axes or is empty, widths differ, or the block size is
            below 1.
        NoDirectionError: If values are NaN or infinite, or a row is zero.
    """
    sides = (("text", text_embeddings), ("image", image_embeddings))
    for side, embeddings in sides:
        if embeddings.ndim != 2 or not embeddings.numel():
            raise ValueError(
                f"expected {side} embeddings of shape (at least 1, at least 1), got "
                f"{tuple(embeddings.shape)}"
            )
    if text_embeddings.shape[1] != image_embeddings.shape[1]:
        raise ValueError(
            f"expected text and image embeddings of one width, got {text_embeddings.shape[1]} and "
            f"{image_embeddings.shape[1]}"
        )
    if broken := _without_direction(dict(sides)):
        raise NoDirectionError(broken)
    if block_size < 1:
        raise ValueError(f"expected a block_size of at least 1, got {block_size}")


def rounded_error(dim: int, width: int) -> float:
    """Bound how far a float32 product of rounded unit vectors is from the exact similarity.

    Each factor is rounded to float32, and whatever the order, each of the products and sums of a
    slice, and each of the sums of the slices, adds at most one rounding of a number of magnitude 1
    or less (Cauchy-Schwarz): about (`width` + `dim` / `width`) x 2**-24.

    Args:
        dim: Width of the embeddings.
        width: Width of the slices of them that are multiplied by themselves.
    """
    return 1.01 * (min(dim, width) + math.ceil(dim / width) + 3) * 2.0**-24


def check_finite(weights: object, **sides: Float[Tensor, "_ dim"]) -> None:
    """Check embeddings where they are made.

    Args:
        weights: What made them: a file, or words.
        **sides: Embeddings by name.

    Raises:
        NoDirectionError: If some are NaN, infinite or zero; names the weights and what to do.
    """
    if broken := _without_direction(sides):
        raise NoDirectionError(diverged(weights, broken))


def diverged(weights: object, got: str) -> str:
    """Return the message for weights that give no embeddings.

    Args:
        weights: As in `check_finite`.
        got: What they give.
    """
    return (
        f"{weights}: expected weights that give finite embeddings other than zero, got {got}; take "
        "another checkpoint, or train again: a lower learning rate or trainer.precision=32-true "
        "diverges less"
    )


def _without_direction(sides: Mapping[str, Tensor]) -> str:
    # The largest number of each row, found without memory of the size of the gallery.
    peaks = dict[str, Tensor]()
    for side, rows in sides.items():
        peaks[side] = torch.linalg.vector_norm(rows.detach(), torch.inf, dim=1)  # pyright: ignore[reportUnknownMemberType]
    faults = {
        "NaN or Inf": {side: ~peak.isfinite() for side, peak in peaks.items()},
        "nothing but zeros": {side: peak < _SHORTEST for side, peak in peaks.items()},
    }
    for fault, broken in faults.items():
        counts = {side: int(rows.sum()) for side, rows in broken.items()}
        found = [f"{n} of {len(sides[side])} {side} embeddings" for side, n in counts.items() if n]
        if found:
            return f"{' and '.join(found)} contain {fault}"
    return ""


def similarity_blocks(
    text_embeddings: Float[Tensor, "query dim"],
    image_embeddings: Float[Tensor, "gallery dim"],
    block_size: int,
) -> Iterator[tuple[slice, Float[Tensor, "block gallery"]]]:
    """Yield the cosine similarities of consecutive texts to the whole gallery.

    Args:
        text_embeddings: Finite, any float type.
        image_embeddings: Finite, of the same width.
        block_size: Texts at a time, fewer where the gallery is large.

    Yields:
        Which texts, and their similarities in float64, the same bits for every block size.
    """
    gallery = unit_vectors(image_embeddings)
    block_size = max(min(block_size, _SCORES // len(gallery)), 1)
    for start in range(0, len(text_embeddings), block_size):
        rows = slice(start, min(start + block_size, len(text_embeddings)))
        yield rows, unit_vectors(text_embeddings[rows].to(gallery.device)) @ gallery.mT
