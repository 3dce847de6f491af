"""Read back all that a run has logged, from the files that wandb keeps of it.

wandb writes each run into `run-<id>.wandb`, a log in LevelDB's layout: blocks of 32 KiB with chunks
of checksum, length, kind and content; the chunks of a record hold one message of wandb's protocol.
"""

import json
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tireid.tracking.logger import ID_FILE

_BLOCK = 32 * 1024
_CHUNK = struct.Struct("<IHB")
_HEADER = struct.Struct("<4sHB")
_LAST_RECORDS = 5  # the end of a run is among them
_WHOLE, _FIRST, _LAST = 1, 2, 4  # kinds of chunks; 3 is a middle one


@dataclass(frozen=True, slots=True)
class OfflineRun:
    """A W&B run read from its files; a run that was continued has one file for each part.

    Attributes:
        id: Id of the run.
        files: The file of each part, oldest first.
        name: Name in tables.
        group: Runs that belong together.
        job_type: `train` or `teacher`.
        tags: Tags of the run.
    """

    id: str
    files: tuple[Path, ...]
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]


def read_offline_run(folder: Path) -> OfflineRun:
    """Read the run of a folder; of several, the one named in `wandb_id.txt`, else the newest."""
    parts: dict[str, list[Path]] = {}
    for file in _files(folder):
        parts.setdefault(file.stem.removeprefix("run-"), []).append(file)
    runs = [run for files in parts.values() if (run := _read(files)) is not None]
    file = folder / ID_FILE
    current = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return next((run for run in runs if run.id == current), runs[-1])


def has_ended(folder: Path) -> bool:
    """Return whether the folder of a run's part holds its last record, so that it is complete."""
    return any(
        _record(content).WhichOneof("record_type") == "exit"
        for file in _files(folder)
        for content in deque(_contents(file), maxlen=_LAST_RECORDS)
    )


def read_records(file: Path) -> Iterator[Any]:
    """Yield the messages of a file, up to the one that a killed process was writing.

    Raises:
        ValueError: If the file was not written by wandb.
    """
    return map(_record, _contents(file))


def _files(folder: Path) -> list[Path]:
    """Return the files of records, ordered by the time in the names of their folders."""
    folders = [folder, *(folder / "wandb").glob("*run-*"), *folder.glob("*run-*")]
    files = {
        file
        for path in folders
        if path.is_dir() and not path.is_symlink()
        for file in path.glob("run-*.wandb")
    }
    return sorted(files, key=lambda file: (_start_time(file.parent), file.parent.name))


def _start_time(folder: Path) -> str:
    return folder.name.removeprefix("offline-").removeprefix("run-")


def _read(files: Sequence[Path]) -> OfflineRun | None:
    """Return the run of some files; None if it was killed before anything was written."""
    records = [r.run for file in files for r in read_records(file)]
    run = next((r for r in reversed(records) if r.run_id), None)
    if run is None:
        return None
    tags = tuple(run.tags)
    name, group = run.display_name, run.run_group
    return OfflineRun(run.run_id, tuple(files), name, group, run.job_type, tags)


def _record(content: bytes) -> Any:
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    record = messages.Record()
    record.ParseFromString(content)
    return record


def _contents(file: Path) -> Iterator[bytes]:
    data = file.read_bytes()
    if not _HEADER.pack(b":W&B", 0xBEE1, 0).startswith(data[: _HEADER.size - 1]):
        raise ValueError(f"{file}: expected a file of wandb, got {data[:7]!r} at its beginning")
    position, content = _HEADER.size, b""
    while True:
        left = _BLOCK - position % _BLOCK
        if left < _CHUNK.size:
            position += left
        if position + _CHUNK.size > len(data):
            return
        checksum, length, kind = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        chunk = data[position : position + length]
        position += length
        if len(chunk) < length or zlib.crc32(bytes([kind]) + chunk) != checksum:
            return  # half written
        content = chunk if kind in (_WHOLE, _FIRST) else content + chunk
        if kind in (_WHOLE, _LAST):
            yield content


@dataclass
class Artifact:
    """A logged artifact; its files by their names in it."""

    name: str
    type: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: dict[str, Path]
    digest: str
    is_used: bool
    description: str


@dataclass
class Logged:
    """A run with its config by dotted names, rows, artifacts and the exit code of its last part.

    `keys` is the config under the names that it was sent with, `saved` are the run's own files.
    """

    run: OfflineRun
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    definitions: dict[str, dict[str, str]] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    exit_code: int | None = None
    keys: dict[str, Any] = field(default_factory=dict)
    console: str = ""
    saved: list[str] = field(default_factory=list)

    @property
    def folders(self):
        return [file.parent for file in self.run.files]

    def column(self, name):
        """Pairs of step and value; of steps that a continued run did twice, the later counts."""
        step = "trainer/global_step"
        return sorted(
            {row[step]: row[name] for row in self.history if name in row and step in row}.items()
        )

    def table(self, name):
        """Columns and rows of a table; images as their files."""
        artifact = [a for a in self.artifacts if a.name == f"run-{self.run.id}-{name}"][-1]
        content = json.loads(artifact.files[f"{name}.table.json"].read_text())

        def cell(value):
            is_file = isinstance(value, dict) and str(value.get("_type", "")).endswith("-file")
            return artifact.files[value["path"]] if is_file else value

        return content["columns"], [[cell(value) for value in row] for row in content["data"]]

    def media(self, reference):
        """The file of an image that a value of the summary names."""
        files = [folder / "files" / reference["path"] for folder in self.folders]
        return next(file for file in reversed(files) if file.is_file())


def update(target, items):
    for item in items:
        node = target
        *above, name = list(item.nested_key) or [item.key]
        for part in above:
            node = node.setdefault(part, {})
        node[name] = json.loads(item.value_json)
    return target


def flat(node, prefix=""):
    result = {}
    for name, value in node.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}".replace("/", ".")] = value
    return result


def wait_for_end(folder, seconds=5.0):
    """Wait until wandb's own process has written all of the newest part; it ends a little later."""
    deadline = time.monotonic() + seconds
    while not has_ended(_files(folder)[-1].parent) and time.monotonic() < deadline:
        time.sleep(0.02)


def read_all(folder):
    """Return everything that the run of a folder has logged."""
    wait_for_end(folder)
    logged = Logged(read_offline_run(folder))
    config: dict[str, Any] = {}
    for file in logged.run.files:
        logged.exit_code = None
        for record in read_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                logged.project = record.run.project
                update(config, record.run.config.update)
                logged.keys |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
                update(logged.summary, record.run.summary.update)
            elif kind == "config":
                update(config, record.config.update)
            elif kind == "summary":
                update(logged.summary, record.summary.update)
            elif kind == "history":
                logged.history.append(update({}, record.history.item))
            elif kind == "metric":
                metric = record.metric
                kinds = [f.name for f, value in metric.summary.ListFields() if value is True]
                name = metric.name or metric.glob_name
                logged.definitions[name] = {"step": metric.step_metric, "summary": ",".join(kinds)}
            elif kind == "artifact":
                logged.artifacts.append(artifact_of(record.artifact))
            elif kind == "output_raw":
                logged.console += record.output_raw.line
            elif kind == "files":
                logged.saved += [entry.path for entry in record.files.files]
            elif kind == "exit":
                logged.exit_code = int(record.exit.exit_code)
    config.pop("_wandb", None)
    logged.config = flat(config)
    return logged


def artifact_of(record):
    return Artifact(
        record.name,
        record.type,
        tuple(record.aliases),
        json.loads(record.metadata or "{}"),
        {entry.path: Path(entry.local_path) for entry in record.manifest.contents},
        record.digest,
        record.use_after_commit,
        record.description,
    )


@pytest.fixture(scope="session")
def read_logged():
    """Return a function from a run folder to all that its W&B run has logged."""
    return read_all
