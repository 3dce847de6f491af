"""Make an index of images, or bring one up to date."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor

from tireid.files import available_cores, folder_lock, write_text
from tireid.inference.retriever import Retriever
from tireid.search.engines.interface import Engine
from tireid.search.engines.opening import open_engine
from tireid.search.fields import NamePattern
from tireid.search.model import SearchModel, find_model, load_model
from tireid.search.reading import ImageFiles, ReadBatch, read_files
from tireid.search.scan import Scan
from tireid.search.settings import FILE, IndexSettings, read_settings
from tireid.search.sources import Found, Source, read_source

FAILURES_FILE = "unreadable.csv"
_LOCK = ".lock"
_MOST_WORKERS = 8
_WORTH_WORKERS = 256  # below this, starting processes takes longer than reading


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    r"""How images are indexed.

    Attributes:
        model: Name or path of the model; None: the index's, or the newest run.
        storage: `float16`, `float32` or `int8`; None: the index's, or float16.
        name_pattern: Regular expression with named groups that are fields, as
            `_c(?P<camera>\d+)`.
        batch_size: Images embedded at once and kept by one transaction.
        workers: Processes that read images; None: as many as there are cores beside this one.
        device: Device to compute on; None: a GPU if there is one.
        runtime: `torch` or `onnx`, as `tireid.load` takes it.
        follow_links: Whether links in folders are followed wherever they lead.
    """

    model: str | None = None
    storage: str | None = None
    name_pattern: str = ""
    batch_size: int = 64
    workers: int | None = None
    device: str | None = None
    runtime: str = "torch"
    follow_links: bool = False


@dataclass
class IndexReport:
    """What an indexing has done.

    Attributes:
        added: Images that are new.
        updated: Images whose content or fields have changed.
        removed: Images that are gone.
        unchanged: Images that are as they were.
        embedded: Images that the model has embedded; equal files count once.
        failures: Files that are not in the index, with the reason.
        total: Images in the index now.
    """

    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    embedded: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    total: int = 0


def build_index(
    sources: Sequence[str | Path],
    folder: str | Path,
    options: IndexOptions | None = None,
    *,
    split: Sequence[Found] = (),
) -> IndexReport:
    """Index the images of some sources; what is in the index already is left alone.

    A process that is killed loses at most the batch under way: called again, this goes on.

    Args:
        sources: Folders, images, patterns, and lists (`.csv`, `.jsonl`) with a column `path`.
        folder: The index; made if there is none.
        options: How images are indexed.
        split: Images found otherwise, with their fields.

    Raises:
        ValueError: If the index was made with another model or storage, another process writes to
            it, or an argument is wrong.
        FileNotFoundError: If a source, the model or the images of a source are missing.
    """
    options = options or IndexOptions()
    folder = Path(folder)
    named = [read_source(str(source)) for source in sources]
    read_fields = NamePattern(options.name_pattern)
    if options.batch_size < 1:
        raise ValueError(f"batch-size: expected at least 1, got {options.batch_size}")
    with _alone(folder):
        settings, model = _settings(folder, options)
        engine = open_engine(folder, settings)
        scan = Scan(engine, read_fields, folder)
        try:
            scan.look_at(split)
            scan.run(named, follow_links=options.follow_links)
            report = IndexReport(removed=scan.remove_gone(_all_sources(named, split)))
            _embed(engine, scan, model.retriever, options, report)
            report.unchanged += scan.unchanged
            report.updated += scan.updated
            report.failures = scan.failures + report.failures
            report.total = engine.count()
        finally:
            scan.close()
            engine.close()
        _write_failures(folder / FAILURES_FILE, report.failures)
    return report


def _all_sources(named: Sequence[Source], split: Sequence[Found]) -> list[Source]:
    return [*named, *(Source("list", name) for name in {found.source for found in split})]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder of an index, and hold it against other writers."""

    def refuse() -> None:
        raise ValueError(f"{folder}: in use by another `tireid index`; wait for its end")

    if folder.is_dir() and not (folder / FILE).is_file():
        others = [file.name for file in folder.iterdir() if not file.name.startswith(".")]
        if others:
            raise ValueError(
                f"{folder}: expected an index, or a new or empty folder for one, got a folder "
                f"with {others[0]!r} in it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder / _LOCK, on_wait=refuse):
        yield


def _settings(folder: Path, options: IndexOptions) -> tuple[IndexSettings, SearchModel]:
    """Return an index's settings, written if it is new, and its model.

    Raises:
        ValueError: If it was made with others.
    """
    if not (folder / FILE).is_file():
        model = load_model(find_model(options.model), options.device, options.runtime)
        settings = IndexSettings(
            model=str(model.path),
            fingerprint=model.retriever.fingerprint,
            trained_on=model.trained_on,
            dim=model.retriever.dim,
            storage=options.storage or IndexSettings.storage,
        )
        settings.write(folder)
        return settings, model
    settings = read_settings(folder)
    if options.storage not in (None, settings.storage):
        raise ValueError(
            f"storage: expected {settings.storage}, which {folder} was made with, got "
            f"{options.storage}; choose another folder"
        )
    path = find_model(options.model or settings.model)
    model = load_model(path, options.device, options.runtime)
    check_model(model, settings, folder)
    if str(model.path) != settings.model:  # the same one, moved
        replace(settings, model=str(model.path)).write(folder)
    return settings, model


def check_model(model: SearchModel, settings: IndexSettings, folder: Path) -> None:
    """Check that a model is the one that an index was made with.

    Raises:
        ValueError: If it is another one, wherever it lies.
    """
    if model.retriever.fingerprint != settings.fingerprint:
        raise ValueError(
            f"model: expected the one that {folder} was made with ({settings.model}, fingerprint "
            f"{settings.fingerprint[:12]}), got {model.path} "
            f"({model.retriever.fingerprint[:12]}); embeddings of two models do not compare: "
            "choose another folder"
        )


def _embed(
    engine: Engine, scan: Scan, retriever: Retriever, options: IndexOptions, report: IndexReport
) -> None:
    """Read and embed what has changed, a transaction a batch."""
    workers = options.workers
    if workers is None:
        spare = max(1, min(_MOST_WORKERS, available_cores() - 1))
        workers = spare if scan.changed >= _WORTH_WORKERS else 0
    files = ImageFiles(retriever.image_size, retriever.interpolation, retriever.shortest_edge)
    with _progress() as bar:
        task = bar.add_task("indexing", total=scan.changed)
        for batch in read_files(files, scan.waiting(options.batch_size), workers):
            _write(engine, batch, retriever, report)
            done = len(batch.rows) + len(batch.unchanged) + len(batch.failures)
            bar.advance(task, done)


def _write(engine: Engine, batch: ReadBatch, retriever: Retriever, report: IndexReport) -> None:
    known = engine.get([row.id for row in batch.rows])
    if batch.rows:
        engine.add(batch.rows, _vectors(engine, batch, retriever, report))
    new = [row for row in batch.rows if row.id not in known]
    report.added += len(new)
    report.updated += len(batch.rows) - len(new)
    engine.update(batch.unchanged)
    report.unchanged += len(batch.unchanged)
    if batch.failures:
        gone = [key for key, _, _ in batch.failures]
        report.removed += len(engine.get(gone))
        engine.remove(gone)
        report.failures += [(path, reason) for _, path, reason in batch.failures]


def _vectors(engine: Engine, batch: ReadBatch, retriever: Retriever, report: IndexReport) -> Tensor:
    """Return the vector of each row: that of a file with the same content, or a new one."""
    vectors = engine.vectors([row.digest for row in batch.rows])
    new: dict[str, int] = {}
    for place, row in enumerate(batch.rows):
        if row.digest not in vectors:
            new.setdefault(row.digest, place)
    if new:
        pixels = batch.pixels[list(new.values())]
        embedded = retriever.encode_pixels(pixels, batch_size=len(pixels))
        vectors |= dict(zip(new, embedded, strict=True))
        report.embedded += len(new)
    return torch.stack([vectors[row.digest] for row in batch.rows])


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} images/s")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _write_failures(file: Path, failures: Sequence[tuple[str, str]]) -> None:
    if not failures:
        file.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    for path, reason in failures:
        writer.writerow([path.encode(errors="backslashreplace").decode(), reason])
    write_text(file, text.getvalue())
