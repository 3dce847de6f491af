"""Make an index of images, or bring one up to date."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tireid.files import available_cores, write_text
from tireid.inference.retriever import Retriever
from tireid.search.detectors.interface import Detector
from tireid.search.detectors.opening import open_detector
from tireid.search.engines.interface import Engine, Row
from tireid.search.engines.opening import default_storage, open_engine
from tireid.search.fields import NamePattern
from tireid.search.model import SearchModel, find_model, load_model
from tireid.search.people import PeopleIndexer
from tireid.search.progress import shown_progress
from tireid.search.reading import ImageFiles, read_files
from tireid.search.scan import Scan, in_batches
from tireid.search.scenes import Scenes
from tireid.search.settings import FILE, IndexSettings, index_lock, read_settings
from tireid.search.shards import merge_shards
from tireid.search.sources import Found, Source, read_source
from tireid.search.writing import IndexReport, write_batch

FAILURES_FILE = "unreadable.csv"
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
        engine: `embedded`, or `milvus://HOST:PORT/COLLECTION`; None: the index's, or embedded.
        follow_links: Whether links in folders are followed wherever they lead.
        detect: `hog`, `dfine`, or another detector as `open_detector` takes it: images are scenes,
            and the people in them are indexed; None: as in the index, which is none if it is new.
        every: Seconds between the frames of a video; None: the index's, or 1.
        prune: Whether images leave the index, too, whose folder is empty now.
    """

    model: str | None = None
    storage: str | None = None
    name_pattern: str = ""
    batch_size: int = 64
    workers: int | None = None
    device: str | None = None
    runtime: str = "torch"
    engine: str | None = None
    follow_links: bool = False
    detect: str | None = None
    every: float | None = None
    prune: bool = False


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
        sources: Folders, images, videos, patterns, and lists (`.csv`, `.jsonl`) with a column
            `path`.
        folder: The index; made if there is none.
        options: How images are indexed.
        split: Images found otherwise, with their fields.

    Raises:
        ValueError: If the index was made with another model, storage or detector, another process
            writes to it, or an argument is wrong.
        FileNotFoundError: If a source, the model or the images of a source are missing.
    """
    options = options or IndexOptions()
    folder = Path(folder)
    named = [read_source(str(source)) for source in sources]
    read_fields = NamePattern(options.name_pattern)
    _check_numbers(options)
    with index_lock(folder):
        settings, model = index_settings(folder, options)
        search = people_search(settings, model, Scenes(folder))
        settings.write(folder)
        engine = open_engine(folder, settings)
        scan = Scan(engine, read_fields, folder, None if search is None else search.scenes)
        try:
            report = merge_shards(folder, settings, engine)
            merged = report.added + report.updated
            scan.look_at(split)
            scan.run(named, follow_links=options.follow_links)
            report.removed += scan.remove_gone(_all_sources(named, split), prune=options.prune)
            report.kept = scan.kept
            if search is None:
                embed_changed(engine, scan, model.retriever, options, report)
            else:
                find_people(engine, scan, search, model.retriever, options, report)
            report.unchanged += max(0, scan.unchanged - merged)
            report.updated += scan.updated
            report.failures = scan.failures + report.failures
            report.total = engine.count()
        finally:
            scan.close()
            engine.close()
        _write_failures(folder / FAILURES_FILE, report.failures)
    return report


def _check_numbers(options: IndexOptions) -> None:
    if options.batch_size < 1:
        raise ValueError(f"batch-size: expected at least 1, got {options.batch_size}")
    if options.workers is not None and options.workers < 0:
        raise ValueError(f"workers: expected 0 or more processes, got {options.workers}")
    if options.every is not None and not options.every > 0:
        raise ValueError(f"every: expected a number of seconds above 0, got {options.every}")


def _all_sources(named: Sequence[Source], split: Sequence[Found]) -> list[Source]:
    return [*named, *(Source("list", name) for name in {found.source for found in split})]


def index_settings(folder: Path, options: IndexOptions) -> tuple[IndexSettings, SearchModel]:
    """Return an index's settings, new ones if it is new, and its model.

    Args:
        folder: The index.
        options: What is asked for.

    Raises:
        ValueError: If it was made with others.
    """
    if not (folder / FILE).is_file():
        model = load_model(find_model(options.model), options.device, options.runtime)
        new = IndexSettings(
            model=str(model.path),
            fingerprint=model.retriever.fingerprint,
            trained_on=model.trained_on,
            dim=model.retriever.dim,
            engine=options.engine or IndexSettings.engine,
            storage=options.storage or default_storage(options.engine),
            detect=_detector_name(options) or "",
            every=options.every or IndexSettings.every,
        )
        return new, model
    settings = read_settings(folder)
    given = {
        "engine": options.engine,
        "storage": options.storage,
        "detect": _detector_name(options),
        "every": options.every,
    }
    for name, value in given.items():
        made_with = getattr(settings, name)
        if value not in (None, made_with):
            raise ValueError(
                f"{name}: expected {made_with or 'nothing'}, which {folder} was made with, got "
                f"{value}; choose another folder"
            )
    path = find_model(options.model or settings.model)
    model = load_model(path, options.device, options.runtime)
    check_model(model, settings, folder)
    return replace(settings, model=str(model.path)), model  # it may have been moved


def _detector_name(options: IndexOptions) -> str | None:
    """Return the detector's name; that of a folder is valid from anywhere."""
    name = options.detect
    return str(Path(name).absolute()) if name and Path(name).is_dir() else name


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


class PeopleSearch(NamedTuple):
    """How people are found in scenes.

    Attributes:
        scenes: What has been looked through.
        detector: Finds people.
        every: Seconds between frames of a video.
        leaves: Whether a changed scene is left to another process.
    """

    scenes: Scenes
    detector: Detector
    every: float
    leaves: Callable[[Row], bool] = lambda _: False


def people_search(
    settings: IndexSettings, model: SearchModel, scenes: Scenes
) -> PeopleSearch | None:
    """Return how an index's settings find people; None: images show one person each.

    Args:
        settings: Of the index.
        model: Whose device the detector computes on.
        scenes: What has been looked through.

    Raises:
        ValueError: If there is no such detector.
        FileNotFoundError: If its files are missing.
    """
    if not settings.detect:
        return None
    detector = open_detector(settings.detect, str(model.retriever.device))
    return PeopleSearch(scenes, detector, settings.every)


def embed_changed(
    engine: Engine, scan: Scan, retriever: Retriever, options: IndexOptions, report: IndexReport
) -> None:
    """Read and embed what has changed, a transaction a batch.

    Args:
        engine: Where rows and vectors are written.
        scan: What has changed.
        retriever: Embeds.
        options: Batch size and worker processes.
        report: What is counted.
    """
    workers = options.workers
    if workers is None:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        spare = max(1, min(_MOST_WORKERS, available_cores() // here - 1))
        workers = spare if scan.changed >= _WORTH_WORKERS else 0
    files = ImageFiles(
        retriever.image_size,
        retriever.interpolation,
        retriever.shortest_edge,
        retriever.decoder,
    )
    with shown_progress("indexing", scan.changed) as advance:
        for batch in read_files(files, in_batches(scan.waiting(), options.batch_size), workers):
            write_batch(engine, batch, retriever, report)
            advance(len(batch.rows) + len(batch.unchanged) + len(batch.failures))


def find_people(
    engine: Engine,
    scan: Scan,
    search: PeopleSearch,
    retriever: Retriever,
    options: IndexOptions,
    report: IndexReport,
) -> None:
    """Look through the scenes that have changed, and embed the people in them.

    Args:
        engine: See `embed_changed` for this, the next and the last three.
        scan: See there.
        search: How people are found.
        retriever: See there.
        options: See there.
        report: See there.
    """
    people = PeopleIndexer(
        engine,
        search.scenes,
        retriever,
        search.detector,
        every=search.every,
        batch_size=options.batch_size,
        report=report,
    )
    with shown_progress("looking for people", scan.changed) as advance:
        people.run((row for row in scan.waiting() if not search.leaves(row)), advance)


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
