"""The server of the page: no state but uploads, so that an address holds a whole query."""

import asyncio
import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from jaxtyping import Float
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from tireid.console import complain
from tireid.data.synthetic import SYNTHETIC
from tireid.search.crops import read_crop, read_scene
from tireid.search.index import Index, Result
from tireid.search.page.guard import guard
from tireid.search.page.images import LARGE, MOST_BYTES, THUMB, Uploads, as_jpeg
from tireid.search.page.reasons import shown_reasons
from tireid.search.parts import Part
from tireid.search.why import find_reasons, without_each_word

_FILES = {"": "page.html", "page.js": "page.js", "page.css": "page.css"}
_MOST_RESULTS = 1000
_SECONDS_TO_SEND = 120  # an image


class Asked(BaseModel):
    """A query, as the address of the page holds it.

    Attributes:
        q: The sentence; may be empty.
        without: What is not wanted; may be empty.
        where: Filter; may be empty.
        upload: Name of an image that was sent; may be empty.
        right: Ids of images that show who is meant.
        wrong: Ids of images that do not.
        start: Number of results before the first one wanted.
        count: Number of results wanted.
    """

    model_config = ConfigDict(extra="forbid")
    q: str = ""
    without: str = ""
    where: str = ""
    upload: str = ""
    right: list[int] = []
    wrong: list[int] = []
    start: Annotated[int, Query(ge=0, le=_MOST_RESULTS)] = 0
    count: Annotated[int, Query(ge=1, le=_MOST_RESULTS)] = 24


Query_ = Annotated[Asked, Query()]
Reader = Callable[[Path, Part | None], Image.Image]


class _Gallery:
    """An index and uploads that threads use in turn."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = Lock()
        self._explaining = Lock()  # takes seconds; searches go on meanwhile
        self._uploads = Uploads()

    def find(self, asked: Asked) -> list[Result]:
        """Return the results that a query wants."""
        with self._lock:
            query = self._embed(asked)
            where = asked.where if asked.where.strip() else None
            (found,) = self._index.find(query, asked.start + asked.count, where=where)
        return found[asked.start :]

    def explain(self, asked: Asked, key: int) -> dict[str, Any]:
        """Return why a query finds an image.

        Raises:
            HTTPException: As `read`.
        """
        words, shortened = without_each_word(asked.q)
        with self._lock:
            queries = self._embed(asked, *shortened)
        place = self._place_of(key)
        with self._explaining, _not_found():
            image = read_crop(*place)
            reasons = find_reasons(self._index.retriever, image, queries[0], queries[1:])
        return shown_reasons(words, reasons)

    def _embed(self, asked: Asked, *others: str) -> Float[Tensor, "query dim"]:
        """Embed a query, and the same with other sentences."""
        return self._index.embed(
            [asked.q, *others] if asked.q.strip() else None,
            image=self._uploads.get(asked.upload) if asked.upload else None,
            without=[asked.without] if asked.without.strip() else (),
            right=asked.right,
            wrong=asked.wrong,
        )

    def about(self) -> dict[str, Any]:
        """Return what the page shows beside results."""
        with self._lock:
            total, fields = len(self._index), self._index.fields
        synthetic = self._index.settings.trained_on == SYNTHETIC
        return {"total": total, "fields": fields, "synthetic": synthetic}

    def add_upload(self, content: bytes) -> str:
        """Hold an image that was sent; return its name."""
        return self._uploads.add(content)

    def read(self, key: int, reader: Reader, most: tuple[int, int]) -> bytes:
        """Return an image of the index as a JPEG.

        Raises:
            HTTPException: If it is none of the index, or cannot be read.
        """
        place = self._place_of(key)
        with _not_found():
            return as_jpeg(reader(*place), most)

    def _place_of(self, key: int) -> tuple[Path, Part | None]:
        with self._lock:
            place = self._index.place_of(key) if 0 <= key < 2**63 else None
        if place is None:
            raise HTTPException(404)
        return place


@contextmanager
def _not_found() -> Iterator[None]:
    """Answer that an image that has changed since is not there: the message names its path."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(404) from error


def make_app(index: Index, password: str | None = None) -> FastAPI:
    """Return the application that serves the page of an index.

    Args:
        index: Open; it is not closed here.
        password: What visitors must know; None: nothing, and only this machine is answered.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    guard(app, password)
    gallery = _Gallery(index)

    @app.exception_handler(ValueError)
    def refuse(_: Request, error: ValueError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(OSError)
    def stop(_: Request, error: OSError) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        complain(str(error))  # it may name files, so only here
        message = "The index cannot be read now; the terminal of the server says why."
        return JSONResponse({"error": message}, 503)

    @app.get("/about")
    def about() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return gallery.about()

    @app.get("/search")
    def search(asked: Query_) -> list[dict[str, Any]]:  # pyright: ignore[reportUnusedFunction]
        return [_shown(result) for result in gallery.find(asked)]

    @app.get("/results.csv")
    def table(asked: Query_) -> Response:  # pyright: ignore[reportUnusedFunction]
        headers = {"Content-Disposition": 'attachment; filename="results.csv"'}
        return Response(_csv(gallery.find(asked)), media_type="text/csv", headers=headers)

    @app.get("/why/{key}")
    def why(key: int, asked: Query_) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return gallery.explain(asked, key)

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        content = await _body(request)
        return {"upload": await run_in_threadpool(gallery.add_upload, content)}

    @app.get("/image/{key}")
    def image(key: int, *, thumb: bool = False) -> Response:  # pyright: ignore[reportUnusedFunction]
        width, height = most = THUMB if thumb else LARGE
        return _jpeg(gallery.read(key, partial(read_crop, least=(height, width)), most))

    @app.get("/scene/{key}")
    def scene(key: int) -> Response:  # pyright: ignore[reportUnusedFunction]
        return _jpeg(gallery.read(key, read_scene, LARGE))

    @app.get("/{name}")
    def file(name: str) -> FileResponse:  # pyright: ignore[reportUnusedFunction]
        return _file(name)

    @app.get("/")
    def page() -> FileResponse:  # pyright: ignore[reportUnusedFunction]
        return _file("")

    return app


def _file(name: str) -> FileResponse:
    if name not in _FILES:
        raise HTTPException(404)
    return FileResponse(Path(__file__).with_name("static") / _FILES[name])


def _jpeg(content: bytes) -> Response:
    cache = {"Cache-Control": "private, max-age=600"}
    return Response(content, media_type="image/jpeg", headers=cache)


def _shown(result: Result) -> dict[str, Any]:
    """Return a result for the browser: no path, and the id as text, for numbers there are short."""
    return {
        "rank": result.rank,
        "score": result.score,
        "id": str(result.id),
        "name": result.path.name,
        "fields": result.fields,
        "scene": result.part is not None,
    }


def _csv(results: list[Result]) -> str:
    names = sorted({name for result in results for name in result.fields})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["rank", "score", "path", *names])
    for result in results:
        known = [_cell(result.fields.get(name)) for name in names]
        writer.writerow([result.rank, f"{result.score:.6f}", _cell(str(result.path)), *known])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


async def _body(request: Request) -> bytes:
    content = bytearray()
    try:
        async with asyncio.timeout(_SECONDS_TO_SEND):
            async for part in request.stream():
                content += part
                if len(content) > MOST_BYTES:
                    most = f"{MOST_BYTES // 2**20} MiB"
                    raise HTTPException(413, f"expected an image of {most} at most")
    except TimeoutError as error:
        raise HTTPException(408, f"expected an image within {_SECONDS_TO_SEND} s") from error
    return bytes(content)
