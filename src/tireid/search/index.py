"""Search an index of images by sentences and images."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tireid.inference.retriever import ImageSource, Retriever
from tireid.search.crops import read_crop
from tireid.search.engines.interface import Engine, Match
from tireid.search.engines.opening import open_engine
from tireid.search.indexing import check_model
from tireid.search.model import find_model, load_model
from tireid.search.parts import Part, part_of
from tireid.search.reading import has_content_of
from tireid.search.settings import IndexSettings, read_settings
from tireid.search.where import Value, parse_where

WITHOUT_WEIGHT = 0.5
RIGHT_WEIGHT, WRONG_WEIGHT = 0.75, 0.25  # Rocchio
_SHORTEST = 1e-6  # shorter queries are what rounding left


@dataclass(frozen=True)
class Result:
    """An image that a search has found.

    Attributes:
        rank: 1 for the best.
        score: Cosine similarity with the query, in [-1, 1]; it orders images and is no probability.
        path: The image file.
        id: Number of the image in its index.
        fields: What the index knows of it, such as `camera` and `time`; of a person in a scene
            also `box` (left, top, width, height in pixels), `detector_score`, and in a video
            `second`.
    """

    rank: int
    score: float
    path: Path
    id: int
    fields: dict[str, Value]

    @property
    def part(self) -> Part | None:
        """The person in a scene; None if the image shows one person."""
        return part_of(self.id, str(self.path), self.fields)

    def image(self) -> Image.Image:
        """Return the image that was found: the file, or the person cut out of the scene.

        Raises:
            ValueError: If the file is gone, damaged, or another one now.
        """
        return read_crop(self.path, self.part)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return asdict(self) | {"path": str(self.path)}


class Index:
    """An index that `tireid index` has made, open for searching.

    It sees what is indexed in the meantime. Close it, or use it in a `with` block.

    Args:
        folder: Folder of the index.
        settings: What it was made with.
        engine: Holds its rows.
        model: The model as the caller names it; None: the one that the index names.
        device: Device to compute on; None: a GPU if there is one.
        runtime: `torch` or `onnx`, as `tireid.load` takes it.

    Attributes:
        folder: Folder of the index.
        settings: What it was made with.
    """

    def __init__(
        self,
        folder: Path,
        settings: IndexSettings,
        engine: Engine,
        *,
        model: str | None = None,
        device: str | None = None,
        runtime: str = "torch",
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._engine = engine
        self._model = model
        self._device = device
        self._runtime = runtime

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        model: str | None = None,
        device: str | None = None,
        runtime: str = "torch",
    ) -> "Index":
        """Open an index; its model is loaded by the first search.

        Args:
            folder: Folder that `tireid index` has written.
            model: Where the model is now, if it has been moved; a path, or a word as `find_model`
                takes it.
            device: Device to compute on; None: a GPU if there is one.
            runtime: `torch` or `onnx`, as `tireid.load` takes it.

        Raises:
            FileNotFoundError: If there is no index.
            ValueError: If it is damaged.

        Example:
            `tireid.Index.open("gallery").search("a woman in a red coat", k=20)`
        """
        folder = Path(folder)
        settings = read_settings(folder)
        engine = open_engine(folder, settings, read_only=True)
        return cls(folder, settings, engine, model=model, device=device, runtime=runtime)

    @cached_property
    def retriever(self) -> Retriever:
        """The model that the index was made with.

        Raises:
            FileNotFoundError: If it is no longer there.
            ValueError: If it is another one now.
        """
        path = find_model(self._model or self.settings.model)
        model = load_model(path, self._device, self._runtime)
        check_model(model, self.settings, self.folder)
        return model.retriever

    @property
    def fields(self) -> list[str]:
        """Names of the fields that its images have, for filters."""
        return sorted(self._engine.fields())

    def search(
        self,
        sentence: str | None = None,
        k: int = 20,
        *,
        image: ImageSource | None = None,
        image_weight: float = 0.5,
        without: Iterable[str] = (),
        where: str | None = None,
    ) -> list[Result]:
        """Find the images that fit a sentence, an image, or both.

        Args:
            sentence: Description of a person.
            k: Number of results; fewer if fewer images pass the filter.
            image: An image of the person.
            image_weight: Share of the image in the query if a sentence is given too, in [0, 1].
            without: What is not wanted, one text or several; half of each embedding is taken from
                the query.
            where: Filter on fields, such as `camera=3 and time>10:00`; see `parse_where`.

        Returns:
            The best images, best first.

        Raises:
            ValueError: If neither sentence nor image is given, or an argument is wrong.
        """
        sentences = None if sentence is None else [sentence]
        return self.search_many(
            sentences, k, image=image, image_weight=image_weight, without=without, where=where
        )[0]

    def search_many(
        self,
        sentences: Sequence[str] | None,
        k: int = 20,
        *,
        image: ImageSource | None = None,
        image_weight: float = 0.5,
        without: Iterable[str] = (),
        where: str | None = None,
    ) -> list[list[Result]]:
        """Search with each of some sentences, as `search` does with one.

        Args:
            sentences: Descriptions; None: the image alone is one query.
            k: See `search` for this and the others.
            image: See there.
            image_weight: See there.
            without: See there.
            where: See there.

        Raises:
            ValueError: As `search`.
        """
        queries = self.embed(sentences, image=image, image_weight=image_weight, without=without)
        return self.find(queries, k, where=where)

    def embed(
        self,
        sentences: Sequence[str] | None = None,
        *,
        image: ImageSource | None = None,
        image_weight: float = 0.5,
        without: Iterable[str] = (),
        right: Sequence[int] = (),
        wrong: Sequence[int] = (),
    ) -> Float[Tensor, "query dim"]:
        """Return the queries that `find` takes, one a sentence.

        Args:
            sentences: See `search_many` for this and the next three.
            image: See there.
            image_weight: See there.
            without: See there.
            right: Ids of images of this index that show who is meant.
            wrong: Ids of images that do not. By Rocchio's rule, 0.75 times the mean of the right
                ones is added to the query and 0.25 times that of the wrong ones taken from it.

        Raises:
            ValueError: If there is nothing to search with, or an argument is wrong.
        """
        if sentences is None and image is None and not right:
            raise ValueError("query: expected a sentence, an image, or both, got neither")
        if not 0 <= image_weight <= 1:
            raise ValueError(f"image_weight: expected a number in [0, 1], got {image_weight}")
        unwanted = [without] if isinstance(without, str) else list(without)
        for text in [*(sentences or ()), *unwanted]:
            if not text.strip():
                raise ValueError(f"query: expected a sentence, got {text!r}")
        parts: list[Tensor] = []
        if sentences is not None:
            weight = 1.0 if image is None else 1 - image_weight
            parts.append(weight * self.retriever.encode_text(sentences))
        if image is not None:
            weight = 1.0 if sentences is None else image_weight
            parts.append(weight * self.retriever.encode_image([image]))
        if unwanted:
            parts.append(
                -WITHOUT_WEIGHT * self.retriever.encode_text(unwanted).sum(0, keepdim=True)
            )
        for ids, weight in ((right, RIGHT_WEIGHT), (wrong, -WRONG_WEIGHT)):
            if ids:
                parts.append(weight * self._vectors(ids).mean(0, keepdim=True))
        if len(parts) == 1 and not right:  # unit-norm as it is, to the last bit
            return parts[0]
        queries = sum(parts[1:], start=parts[0])
        if float(queries.norm(dim=-1).min()) < _SHORTEST:
            raise ValueError(
                "query: expected something to search for, got nothing that is left of it: what is "
                "not wanted takes all away"
            )
        return F.normalize(queries, dim=-1)

    def _vectors(self, ids: Sequence[int]) -> Float[Tensor, "images dim"]:
        rows = self._engine.get(ids)
        if missing := [key for key in ids if key not in rows]:
            raise ValueError(f"image: expected one of this index, got the id {missing[0]}")
        vectors = self._engine.vectors([row.digest for row in rows.values()])
        return torch.stack([vectors[rows[key].digest] for key in ids])

    def find(
        self, queries: Float[Tensor, "query dim"], k: int = 20, *, where: str | None = None
    ) -> list[list[Result]]:
        """Find the images that are nearest to each query of `embed`.

        Args:
            queries: Of unit norm.
            k: See `search` for this and the next.
            where: See there.

        Raises:
            ValueError: If `k` is below 1 or the filter is wrong.
        """
        if k < 1:
            raise ValueError(f"k: expected at least 1, got {k}")
        condition = None if where is None else parse_where(where)
        return [_results(matches) for matches in self._engine.search(queries, k, condition)]

    def place_of(self, key: int) -> tuple[Path, Part | None] | None:
        """Return the file of an image by its id, and the person in it if it is a scene.

        Returns:
            None if the index has no such image, or there is another file in its place.
        """
        row = self._engine.get([key]).get(key)
        if row is None:
            return None
        part = part_of(key, row.path, row.fields)
        return (Path(row.path), part) if has_content_of(row, part) else None

    def count(self, where: str | None = None) -> int:
        """Return the number of images, or of those that pass a filter.

        Raises:
            ValueError: If the filter is wrong.
        """
        return self._engine.count(None if where is None else parse_where(where))

    def __len__(self) -> int:
        return self.count()

    def close(self) -> None:
        """Close the files of the index."""
        self._engine.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _results(matches: Sequence[Match]) -> list[Result]:
    return [
        Result(rank, match.score, Path(match.row.path), match.row.id, match.row.fields)
        for rank, match in enumerate(matches, start=1)
    ]
