"""Weights of the tokens of a query and its images: a method's attention, or terms of the score."""

from math import log

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tireid.explanations.embedded_split import EmbeddedSplit
from tireid.explanations.query_pages import Caption, MapRow, QueryPage, ShownImage, Weights
from tireid.methods.base import RetrievalModule
from tireid.retrieval import top_k
from tireid.structures import TokenMaps

_FULL = 0.5  # share of the rows whose largest strength is drawn at full tint
_EVEN = 4.0  # full tint is at least so many even shares, so that an even row is pale
_MARKS = "\N{CHECK MARK} the same identity, \N{MULTIPLICATION X} another, with the score."


def query_page(
    model: RetrievalModule,
    split: EmbeddedSplit,
    query: int,
    *,
    images: int,
) -> QueryPage | None:
    """Return the page of one caption; None if the method has no weights to show.

    Args:
        model: A trained method.
        split: The split that is searched.
        query: Position of the caption.
        images: Number of best-ranked images.
    """
    text = split.captions[query]
    described = split.image_of[query]
    scores, positions = top_k(split.texts[query : query + 1], split.images, len(split.images))
    ranking: list[int] = positions[0].tolist()
    pids = [record.pid for record in split.records]
    first = next(rank for rank, image in enumerate(ranking, 1) if pids[image] == pids[described])
    shown = [_shown(split, described, f"rank {ranking.index(described) + 1}", None)]
    for image, score in zip(ranking[:images], scores[0].tolist(), strict=False):
        shown.append(_shown(split, image, f"{score:.2f}", pids[image] == pids[described]))

    pixels = split.load_images([described, *ranking[:images]])
    token_ids, valid = split.tokens([text])
    size = (int(pixels.shape[2]), int(pixels.shape[3]))
    with torch.no_grad():
        image_maps = model.explain_images(pixels)
        text_maps = model.explain_texts(token_ids, valid)
    if image_maps is not None and text_maps is not None:
        weights = _attention(image_maps, text_maps, size)
    else:
        texts = split.texts[query : query + 1].expand(len(shown), -1).to(split.device)
        gallery = split.images[described : described + 1].to(split.device)
        of_images = model.image_contributions(pixels, texts)
        of_texts = model.text_contributions(token_ids, valid, gallery)
        weights = _contributions(of_images, of_texts, size)
    if weights is None:
        return None
    return QueryPage(
        title=f"Caption {query} of {split.name}: first correct image at rank {first}",
        caption=Caption(text, split.tokenizer.places(text)),
        images=shown,
        weights=weights,
    )


def _shown(split: EmbeddedSplit, image: int, label: str, correct: bool | None) -> ShownImage:
    return ShownImage(split.records[image].image_path, label, correct)


def part_shares(maps: TokenMaps) -> Float[np.ndarray, "batch parts length"] | None:
    """Return the attention of each part in multiples of an even share, mean of layers and heads."""
    if maps.parts is None:
        return None
    share = maps.parts.float().mean(dim=(1, 2))
    return (share * maps.valid.sum(dim=1)[:, None, None]).cpu().numpy()


def token_grid(length: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of image tokens that lie row by row over an image.

    Args:
        length: Number of tokens.
        image_size: Height and width. Of all grids the one with the squarest cells is taken.
    """
    height, width = image_size

    def stretch(rows: int) -> float:
        return abs(log(height * (length // rows) / (rows * width)))

    rows = min((n for n in range(1, length + 1) if length % n == 0), key=stretch)
    return rows, length // rows


def _attention(images: TokenMaps, texts: TokenMaps, size: tuple[int, int]) -> Weights | None:
    """Return the attention of a method's parts and its foreground weights."""
    of_images, of_texts = part_shares(images), part_shares(texts)
    count = int(images.valid.shape[1])
    grid = token_grid(count, size)
    rows: list[MapRow] = []
    scales: list[tuple[str, str, str]] = []
    if images.foreground is not None:
        rows.append(_foreground(images.foreground, grid, with_parts=of_images is not None))
    summary = rows[0] if rows else None
    if of_images is not None and of_texts is not None:
        image_limit, text_limit = (max(_EVEN, _limit(x)) for x in (of_images, of_texts))
        rows += [
            MapRow(
                f"Prototype {part + 1}",
                "",
                (of_texts[0, part] / text_limit).tolist(),
                list((of_images[:, part] / image_limit).reshape(-1, *grid)),
            )
            for part in range(of_texts.shape[1])
        ]
        scales = [
            (
                f"attention of a prototype to a {token}:",
                "none",
                f"{limit:.1f} times an even share, or more",
            )
            for token, limit in (("word", text_limit), ("patch", image_limit))
        ]
        summary = _mean_over_parts(of_images, of_texts[0], grid)
    if summary is None:
        return None
    subtitle = (
        f"{int(texts.valid.sum())} tokens of the caption and {count} of each image ({grid[0]} x "
        f"{grid[1]}); mean over layers and heads. Dashed frame: the image described. {_MARKS}"
    )
    return Weights(subtitle, rows, scales, False, summary)


def _foreground(weights: Tensor, grid: tuple[int, int], *, with_parts: bool) -> MapRow:
    note = "Learnt without labels. Full tint: weight 1."
    if with_parts:
        note += (
            " The attention's LayerNorm removes the norm of a token again, so these weights hardly"
            " affect the ranking."
        )
    maps = weights.float().cpu().numpy().reshape(-1, *grid)
    return MapRow("Foreground weight", note, None, list(maps))


def _mean_over_parts(
    of_images: Float[np.ndarray, "batch parts length"],
    of_texts: Float[np.ndarray, "parts tokens"],
    grid: tuple[int, int],
) -> MapRow:
    """Return the mean over parts, tinted by its own largest value: it is flatter than each part."""
    images, words = of_images.mean(axis=1), of_texts.mean(axis=0)
    return MapRow(
        "All prototypes",
        "",
        (words / max(_EVEN, _limit(words[None]))).tolist(),
        list((images / max(_EVEN, _limit(images))).reshape(-1, *grid)),
    )


def _contributions(
    images: Tensor | None, texts: Tensor | None, size: tuple[int, int]
) -> Weights | None:
    """Return the terms that tokens add to the score of a method that pools them."""
    if images is None and texts is None:
        return None
    scales: list[tuple[str, str, str]] = []
    words = maps = None
    if texts is not None:
        terms = texts[0].float().cpu().numpy()
        limit = float(np.abs(terms).max()) or 1.0
        words = (terms / limit).tolist()
        scales.append(("what a word adds to the score:", f"{-limit:.2f}", f"{limit:.2f}"))
    if images is not None:
        terms = images.float().cpu().numpy()
        limit = _limit(np.abs(terms))
        maps = list((terms / limit).reshape(-1, *token_grid(terms.shape[1], size)))
        scales.append(("what a patch adds to the score:", f"{-limit:.2f}", f"{limit:.2f} or more"))
    note = "Patches: with this caption. Words: with the image described."
    for name, shown in (("words", words), ("patches", maps)):
        if shown is None:
            note += f" The encoder's score is no sum over {name}: nothing to show for them."
    row = MapRow("What each token adds to the score", note, words, maps)
    subtitle = (
        "The score is a sum over tokens where they are pooled by maximum or mean; what a class or "
        "end token brings is left out. Tokens are hidden states that have seen their neighbours."
    )
    return Weights(subtitle, [row], scales, True, row)


def _limit(strengths: Float[np.ndarray, "..."]) -> float:
    """Return the strength of full tint, one for all rows."""
    rows = strengths.reshape(-1, strengths.shape[-1])
    return float(np.quantile(rows.max(axis=1), _FULL)) or 1.0
