"""Results query by query: ranks, the best images, and the distribution of similarities."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from tireid.metrics.ranks import PositiveRanks, join_ranks, rank_positives
from tireid.metrics.values import query_values
from tireid.retrieval.gallery import Gallery
from tireid.retrieval.ranking import Ranking
from tireid.retrieval.similarity import check_embeddings, similarity_blocks
from tireid.retrieval.top_k import BestImages, sorted_best
from tireid.runs.foreign import regular_file

QUERIES_FILE = "queries_test.npz"  # in a run folder
_BINS = 200
_LARGEST = 256 * 2**20  # bytes, unpacked: some millions of queries
_VALUE = "value/"


@dataclass(frozen=True, slots=True)
class QueryResults:
    """The results of each caption of a split, in the order of the split.

    Attributes:
        values: Every metric of every query by name, as fractions; NaN where it is left out.
        first_rank: Rank of the best image of the query's identity, from 1; 0 where there is none.
        pids: Identity of each query.
        own: Position in the gallery of the image that the caption was written for; -1 where it is
            not in the gallery.
        found: Positions in the gallery of the best images, best first.
        scores: Cosine similarities of the best images.
        right: Whether each of the best images shows the query's identity.
        edges: Edges of the bins of similarity, from -1 to 1.
        positives: Pairs of one identity in each bin.
        negatives: Pairs of two identities in each bin.
    """

    values: dict[str, Float[ndarray, " query"]]
    first_rank: Int[ndarray, " query"]
    pids: Int[ndarray, " query"]
    own: Int[ndarray, " query"]
    found: Int[ndarray, "query k"]
    scores: Float[ndarray, "query k"]
    right: Bool[ndarray, "query k"]
    edges: Float[ndarray, " edges"]
    positives: Int[ndarray, " bins"]
    negatives: Int[ndarray, " bins"]


def query_results(
    text_embeddings: Float[Tensor, "query dim"],
    image_embeddings: Float[Tensor, "gallery image_dim"],
    text_pids: Int[Tensor, " query"],
    image_pids: Int[Tensor, " gallery"],
    own: Int[Tensor, " query"],
    *,
    k: int = 10,
    block_size: int = 256,
) -> QueryResults:
    """Rank a gallery by each text, and keep what figures and comparisons of runs need.

    Args:
        text_embeddings: The queries; any float type, need not be normalised.
        image_embeddings: The gallery, every image once; of the same width.
        text_pids: Identity of each text.
        image_pids: Identity of each image.
        own: Position in the gallery of each text's own image, -1 where it is not in the gallery.
        k: Best images to keep of each text, at most the gallery.
        block_size: Texts compared with the gallery at a time; bounds the memory.

    Raises:
        ValueError: If embeddings are empty, of two widths, NaN or infinite.
    """
    check_embeddings(text_embeddings, image_embeddings, block_size)
    device = image_embeddings.device
    sides = text_embeddings, image_embeddings, text_pids.to(device), image_pids.to(device)
    collect = _from_products if device.type == "cpu" else _from_sorting
    ranked, scores, found, (positives, negatives) = collect(*sides, k, block_size)
    values = query_values(ranked, own.to(device))
    found, gallery = found.cpu(), image_pids.cpu()
    return QueryResults(
        first_rank=ranked.ranks[:, 0].cpu().numpy().astype(np.int32),
        found=found.numpy().astype(np.int32),
        scores=scores.cpu().numpy().astype(np.float32),
        right=(gallery[found] == text_pids.cpu()[:, None]).numpy(),
        values={name: value.cpu().numpy().astype(np.float32) for name, value in values.items()},
        pids=text_pids.cpu().numpy(),
        own=own.cpu().numpy(),
        edges=np.linspace(-1.0, 1.0, _BINS + 1),
        positives=positives.cpu().numpy(),
        negatives=negatives.cpu().numpy(),
    )


_Collected = tuple[PositiveRanks, Tensor, Tensor, tuple[Tensor, Tensor]]


def _from_products(
    texts: Float[Tensor, "query dim"],
    images: Float[Tensor, "gallery dim"],
    text_pids: Int[Tensor, " query"],
    image_pids: Int[Tensor, " gallery"],
    k: int,
    block_size: int,
) -> _Collected:
    """Return ranks, best similarities, best images, and pairs in each bin, right and wrong.

    Only the bins of wrong pairs hold what a float32 product says.
    """
    gallery = Gallery(images)
    ranking, best = Ranking(text_pids, image_pids, gallery, texts), BestImages(k)
    negatives = np.zeros(_BINS, np.int64)
    for block in gallery.blocks(texts, block_size):
        best.add(block)
        ranking.add(block)
        wrong = block.similarity[block.similarity > -np.inf]
        negatives += np.bincount(_bins(wrong), minlength=_BINS)
    right = ranking.similarity[ranking.similarity > -np.inf]
    positives = np.bincount(_bins(right), minlength=_BINS)
    bins = torch.as_tensor(positives), torch.as_tensor(negatives)
    scores, found = map(torch.as_tensor, best.result())
    return ranking.ranks(), scores, found, bins


def _bins(similarity: Float[ndarray, " pairs"]) -> Int[ndarray, " pairs"]:
    bins = similarity + np.float32(1)
    bins *= np.float32(_BINS / 2)
    return bins.clip(0, _BINS - 1, out=bins).astype(np.intp)


def _from_sorting(
    texts: Float[Tensor, "query dim"],
    images: Float[Tensor, "gallery dim"],
    text_pids: Int[Tensor, " query"],
    image_pids: Int[Tensor, " gallery"],
    k: int,
    block_size: int,
) -> _Collected:
    """Return the same as `_from_products`, on any device."""
    positives = torch.zeros(_BINS, dtype=torch.int64, device=images.device)
    negatives = torch.zeros_like(positives)
    ranked: list[PositiveRanks] = []
    best: list[tuple[Tensor, Tensor]] = []
    for rows, similarity in similarity_blocks(texts, images, block_size):
        same = text_pids[rows, None] == image_pids
        bins = ((similarity + 1) * (_BINS / 2)).long().clamp_(0, _BINS - 1)
        positives += torch.bincount(bins[same], minlength=_BINS)
        negatives += torch.bincount(bins[~same], minlength=_BINS)
        ranked.append(rank_positives(similarity, text_pids[rows], image_pids))
        best.append(sorted_best(similarity, k))
    scores, found = (torch.cat(parts) for parts in zip(*best, strict=True))
    return join_ranks(ranked), scores, found, (positives, negatives)


def queries_content(results: QueryResults) -> bytes:
    """Return the content of a file that `read_queries` reads."""
    arrays: dict[str, Any] = {
        name: getattr(results, name) for name in QueryResults.__slots__ if name != "values"
    }
    arrays |= {_VALUE + name: value for name, value in results.values.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def read_queries(path: Path) -> QueryResults:
    """Read the results of queries; nothing in the file is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, too large, or holds something else.
    """
    regular_file(path, inside=path.parent, largest=_LARGEST)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if size > _LARGEST:
                raise ValueError(f"{size / 2**20:,.0f} MiB in it")
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        values = {
            name.removeprefix(_VALUE): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(_VALUE)
        }
        results = QueryResults(values=values, **arrays)
        fault = _fault(results)
    except (Exception, MemoryError) as error:  # Broken files raise nearly anything.
        raise ValueError(f"{path}: expected the results of queries, got {error}") from error
    if fault:
        raise ValueError(f"{path}: {fault}")
    return results


def _fault(results: QueryResults) -> str:
    """Describe the first array that does not fit the others; empty if all do."""
    count, (_, k) = len(results.pids), results.found.shape
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        **dict.fromkeys(("first_rank", "pids", "own"), ((count,), "i")),
        **{"found": ((count, k), "i"), "scores": ((count, k), "f"), "right": ((count, k), "b")},
        **{
            "edges": ((_BINS + 1,), "f"),
            "positives": ((_BINS,), "i"),
            "negatives": ((_BINS,), "i"),
        },
    }
    arrays = {name: getattr(results, name) for name in shapes}
    for name, values in results.values.items():
        shapes[name], arrays[name] = ((count,), "f"), values
    for name, (shape, kind) in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind != kind:
            got = f"{arrays[name].shape} of {arrays[name].dtype}"
            return f"{name}: expected {shape} numbers of kind {kind!r}, got {got}"
    return ""
