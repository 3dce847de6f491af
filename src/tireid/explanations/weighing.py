"""From a method's weights to what pages show: strengths of tokens in multiples of an even share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tireid.data.datasets import pad_captions
from tireid.data.records import Record
from tireid.explanations.blocks import Caption
from tireid.explanations.queries import MapRow, QueryPage, ShownPicture
from tireid.methods.base import RetrievalModule
from tireid.retrieval import top_k
from tireid.structures import TokenMaps

_FULL = 0.5  # share of the rows whose largest strength is drawn at full tint
_EVEN = 4.0  # even shares that full tint stands for at least, so that an even row is pale


@dataclass(frozen=True)
class Split:
    """An embedded split and what its items are made from.

    Attributes:
        name: Of the split.
        records: In the order of the gallery.
        texts: Unit-norm embeddings of all captions, on the CPU.
        images: Unit-norm embeddings of the gallery, likewise.
        image_of: Position in the gallery of the image that each caption describes.
        tokenizer: Of the run.
        load_image: An image as the model takes it.
    """

    name: str
    records: Sequence[Record]
    texts: Float[Tensor, "query dim"]
    images: Float[Tensor, "gallery dim"]
    image_of: Sequence[int]
    tokenizer: Any
    load_image: Callable[[Path], Tensor]

    @property
    def captions(self) -> list[str]:
        """All captions, in their order."""
        return [caption for record in self.records for caption in record.captions]


@torch.no_grad()
def embed_split(model: RetrievalModule, datamodule: Any, split: str, device: torch.device) -> Split:
    """Embed all captions and images of a split, in float32."""
    model.eval().to(device)
    embedded: list[Tensor] = []
    for loader in datamodule.whole_split(split):
        found = [model.embed(_moved(batch, device)).cpu() for batch in loader]
        embedded.append(torch.cat(found))
    records = datamodule.records(split)
    return Split(
        name=split,
        records=records,
        texts=embedded[0],
        images=embedded[1],
        image_of=[image for image, record in enumerate(records) for _ in record.captions],
        tokenizer=datamodule.tokenizer,
        load_image=datamodule.eval_image_transform,
    )


def query_page(
    model: RetrievalModule,
    split: Split,
    query: int,
    *,
    images: int,
    device: torch.device,
) -> QueryPage | None:
    """Weigh one caption, its picture and the best-ranked ones; None: the method shows no weights.

    Args:
        model: A trained method.
        split: What is searched.
        query: Position of the caption.
        images: Number of best-ranked pictures.
        device: Where to compute.
    """
    text = split.captions[query]
    caption = Caption(text, split.tokenizer.places(text))
    own = split.image_of[query]
    scores, found = top_k(split.texts[query : query + 1], split.images, len(split.images))
    ranking = found[0].tolist()
    pids = [record.pid for record in split.records]
    shown = [own, *ranking[:images]]
    pictures = [ShownPicture(split.records[own].image_path, f"rank {ranking.index(own) + 1}", None)]
    for image, score in zip(ranking[:images], scores[0].tolist(), strict=False):
        right = pids[image] == pids[own]
        pictures.append(ShownPicture(split.records[image].image_path, f"{score:.2f}", right))
    first = next(rank for rank, image in enumerate(ranking, 1) if pids[image] == pids[own])

    pixels = torch.stack([split.load_image(split.records[i].image_path) for i in shown]).to(device)
    token_ids, valid = pad_captions(split.tokenizer([text]), split.tokenizer.pad_id)
    token_ids, valid = token_ids.to(device), valid.to(device)
    with torch.no_grad():
        image_maps = model.explain_images(pixels)
        text_maps = model.explain_texts(token_ids, valid)
    place = {
        "title": f"Caption {query} of {split.name}: first right picture at rank {first}",
        "caption": caption,
        "pictures": pictures,
    }
    height, width = int(pixels.shape[2]), int(pixels.shape[3])
    if image_maps is not None and text_maps is not None:
        weighed = _weights(image_maps, text_maps, (height, width))
    else:
        texts, gallery = split.texts[query : query + 1], split.images[own : own + 1]
        of_images = model.image_contributions(pixels, texts.expand(len(shown), -1).to(device))
        of_texts = model.text_contributions(token_ids, valid, gallery.to(device))
        weighed = _contributions(of_images, of_texts, (height, width))
    return None if weighed is None else QueryPage(**place, **weighed)


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
        image_size: Height and width; of all grids, the one whose places are nearest to squares is
            taken.
    """
    height, width = image_size

    def stretch(rows: int) -> float:
        return abs(log(height * (length // rows) / (rows * width)))

    rows = min((n for n in range(1, length + 1) if length % n == 0), key=stretch)
    return rows, length // rows


def _weights(images: TokenMaps, texts: TokenMaps, size: tuple[int, int]) -> dict[str, Any] | None:
    of_images, of_texts = part_shares(images), part_shares(texts)
    rows: list[MapRow] = []
    scales: list[tuple[str, str, str]] = []
    grid = token_grid(int(images.valid.shape[1]), size)
    count = images.valid.shape[1]
    if images.foreground is not None:
        note = "Learnt without labels. Full tint: weight 1."
        if of_images is not None:
            note += (
                " The attention's LayerNorm takes the size of a token out again, so that these"
                " weights hardly move the ranking."
            )
        maps = images.foreground.float().cpu().numpy().reshape(-1, *grid)
        rows.append(MapRow("Foreground weight", note, None, list(maps)))
    summary = rows[0] if rows else None
    if of_images is not None and of_texts is not None:
        image_limit, text_limit = (max(_EVEN, _limit(x)) for x in (of_images, of_texts))
        maps = (of_images / image_limit).reshape(*of_images.shape[:2], *grid)
        words = of_texts[0] / text_limit
        for part in range(words.shape[0]):
            title = f"Prototype {part + 1}"
            rows.append(MapRow(title, "", words[part].tolist(), list(maps[:, part])))
        even = "attention of a prototype to a"
        scales = [
            (f"{even} word:", "none", f"{text_limit:.1f} times an even share, or more"),
            (f"{even} patch:", "none", f"{image_limit:.1f} times an even share, or more"),
        ]
        # The mean over prototypes, tinted by its own largest value: it is flatter than each.
        mean_images, mean_words = of_images.mean(axis=1), of_texts[0].mean(axis=0)
        summary = MapRow(
            "All prototypes",
            "",
            (mean_words / max(_EVEN, _limit(mean_words[None]))).tolist(),
            list((mean_images / max(_EVEN, _limit(mean_images))).reshape(-1, *grid)),
        )
    if summary is None:
        return None
    valid = int(texts.valid.sum())
    return {
        "subtitle": (
            f"{valid} tokens of the caption and {count} of each picture ({grid[0]} x {grid[1]}); "
            "mean over layers and heads. Dashed frame: the picture described. "
            "\N{CHECK MARK} the same person, \N{MULTIPLICATION X} another, with the score."
        ),
        "rows": rows,
        "scales": scales,
        "signed": False,
        "summary": summary,
    }


def _contributions(
    images: Tensor | None, texts: Tensor | None, size: tuple[int, int]
) -> dict[str, Any] | None:
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
    missing = [name for name, found in (("words", words), ("patches", maps)) if found is None]
    note = "Patches: with this caption. Words: with the picture described."
    if missing:
        note += f" The encoder's score is no sum over {missing[0]}: nothing to show for them."
    row = MapRow("What each token adds to the score", note, words, maps)
    return {
        "subtitle": (
            "This method weighs no tokens; the encoders pool them by maximum or mean, and so the "
            "score is a sum over tokens, which are hidden states that have seen their neighbours."
        ),
        "rows": [row],
        "scales": scales,
        "signed": True,
        "summary": row,
    }


def _limit(strengths: Float[np.ndarray, "..."]) -> float:
    """Return the strength of full tint, one for all rows."""
    rows = strengths.reshape(-1, strengths.shape[-1])
    return float(np.quantile(rows.max(axis=1), _FULL)) or 1.0


def _moved(batch: Any, device: torch.device) -> Any:
    return type(batch)(*(x.to(device) if isinstance(x, Tensor) else x for x in batch))


def evenly(count: int, total: int) -> Int[np.ndarray, " chosen"]:
    """Return up to `count` positions spread over `total`."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
