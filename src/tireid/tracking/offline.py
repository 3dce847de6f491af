"""Read the runs that Weights & Biases keeps in a folder, without its server.

wandb writes each run into a file of records (`run-<id>.wandb`), offline or not. The file is a log
in LevelDB's layout: blocks of 32 KiB, in them chunks of a checksum, a length and a kind; the chunks
of one record hold one message of wandb's own protocol.
"""

import json
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ID_FILE = "wandb_id.txt"  # in a run folder: which of its runs is the current one
_BLOCK = 32 * 1024
_CHUNK = struct.Struct("<IHB")
_HEADER = struct.Struct("<4sHB")
_LAST_RECORDS = 5  # among which the end of a run is
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class LoggedArtifact:
    """A named bundle of files that a run logged.

    Attributes:
        name: Its name, without a version.
        type: Such as `model`.
        aliases: Such as `best`.
        metadata: Whatever was said of it.
        files: Where each file lies on this machine, by its name in the artifact.
    """

    name: str
    type: str
    aliases: tuple[str, ...]
    metadata: dict[str, Any]
    files: dict[str, Path]


@dataclass(frozen=True, slots=True)
class OfflineRun:
    """A run as its files tell it; of one that was continued, all parts together.

    Attributes:
        id: The run's.
        folders: Of its parts, the oldest first; `files/` in them holds its pictures.
        name: Shown in tables.
        group: Runs that belong together.
        job_type: `train` or `teacher`.
        project: The project it belongs to.
        tags: The run's.
        config: All settings by dotted name, whether they were logged nested or with slashes.
        summary: What stands for the run in a table, by name.
        history: What was logged, a row a step; `_step`, `_runtime` and `_timestamp` are wandb's.
        definitions: For each defined metric, or pattern of metrics, its step and its summary.
        artifacts: What it logged, in order.
        exit_code: Of its last part; None where that did not end.
    """

    id: str
    folders: tuple[Path, ...]
    name: str
    group: str
    job_type: str
    project: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    definitions: dict[str, dict[str, str]]
    artifacts: tuple[LoggedArtifact, ...]
    exit_code: int | None

    def column(self, name: str) -> list[tuple[int, Any]]:
        """Return the values of a metric with the optimiser's step, in the order they were logged.

        Of steps that a continued run did twice, the later value counts.
        """
        step = "trainer/global_step"
        found = {row[step]: row[name] for row in self.history if name in row and step in row}
        return sorted(found.items())

    def table(self, name: str) -> tuple[list[str], list[list[Any]]]:
        """Return the columns and the rows of a table that was logged; pictures as their files.

        Raises:
            FileNotFoundError: If it was not logged, or its files are gone.
        """
        kept = f"run-{self.id}-{name}"
        for artifact in reversed(self.artifacts):
            file = artifact.files.get(f"{name}.table.json")
            if artifact.name == kept and file is not None:
                content = json.loads(file.read_text(encoding="utf-8"))
                rows = [[_cell(value, artifact) for value in row] for row in content["data"]]
                return content["columns"], rows
        raise FileNotFoundError(f"{self.folders[-1]}: expected a table {name!r}, got none")

    def media(self, reference: dict[str, Any]) -> Path:
        """Return the file of a picture that a value of `history` or `summary` names.

        Raises:
            FileNotFoundError: If it is gone.
        """
        for folder in reversed(self.folders):
            path = folder / "files" / reference["path"]
            if path.is_file():
                return path
        raise FileNotFoundError(f"{self.folders[-1]}: expected files/{reference['path']} in it")


def read_offline_run(folder: Path) -> OfflineRun:
    """Read a folder's run; of several, the one of `wandb_id.txt`, else the newest.

    Args:
        folder: A run folder, the `wandb/` in it, or the folder of one run in that.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If its file is none of wandb's.
        ModuleNotFoundError: If wandb, which knows its own records, is not installed.
    """
    runs = read_offline_runs(folder)
    file = folder / ID_FILE
    current = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return next((run for run in runs if run.id == current), runs[-1])


def read_offline_runs(folder: Path) -> list[OfflineRun]:
    """Read all runs of a folder, the oldest first.

    Args:
        folder: As above.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a file is none of wandb's.
        ModuleNotFoundError: If wandb is not installed.
    """
    parts: dict[str, list[Path]] = {}
    for file in _files(folder):
        parts.setdefault(file.stem.removeprefix("run-"), []).append(file)
    runs = [run for files in parts.values() if (run := _run(files)) is not None]
    if not runs:
        raise FileNotFoundError(
            f"{folder}: expected a run of Weights & Biases in it (wandb/offline-run-*/run-*.wandb)"
        )
    return runs


def _cell(value: Any, artifact: LoggedArtifact) -> Any:
    is_file = isinstance(value, dict) and str(value.get("_type", "")).endswith("-file")
    return artifact.files[value["path"]] if is_file else value


def has_offline_run(folder: Path) -> bool:
    """Return whether a folder holds a run that could be read."""
    return bool(_files(folder))


def has_ended(folder: Path) -> bool:
    """Return whether the file of one run's part holds its end, with which it is complete.

    Args:
        folder: Of the part.
    """
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    for file in _files(folder):
        for content in deque(_contents(file), maxlen=_LAST_RECORDS):
            record = messages.Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "exit":
                return True
    return False


def _files(folder: Path) -> list[Path]:
    """Return the files of records, ordered by the time in their folders' names."""
    places = [folder, *(folder / "wandb").glob("*run-*"), *folder.glob("*run-*")]
    found = {
        file
        for place in places
        if place.is_dir() and not place.is_symlink()
        for file in place.glob("run-*.wandb")
    }
    return sorted(found, key=lambda file: (_began(file.parent), file.parent.name))


def _began(folder: Path) -> str:
    return folder.name.removeprefix("offline-").removeprefix("run-")


def _run(files: Sequence[Path]) -> OfflineRun | None:
    """Return the run of some files; None if it died before anything was written."""
    run: Any = None
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    definitions: dict[str, dict[str, str]] = {}
    artifacts: list[LoggedArtifact] = []
    exit_code = None
    for file in files:
        exit_code = None
        for record in _records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run
                _update(config, run.config.update)
                _update(summary, run.summary.update)
            elif kind == "config":
                _update(config, record.config.update)
            elif kind == "summary":
                _update(summary, record.summary.update)
                for item in record.summary.remove:
                    _remove(summary, _path(item))
            elif kind == "history":
                rows.append(_update({}, record.history.item))
            elif kind == "metric":
                definitions |= _definition(record.metric)
            elif kind == "artifact":
                artifacts.append(_artifact(record.artifact))
            elif kind == "exit":
                exit_code = int(record.exit.exit_code)
    if run is None:
        return None
    config.pop("_wandb", None)
    return OfflineRun(
        id=run.run_id,
        folders=tuple(file.parent for file in files),
        name=run.display_name,
        group=run.run_group,
        job_type=run.job_type,
        project=run.project,
        tags=tuple(run.tags),
        config=_flat(config),
        summary={name: value for name, value in summary.items() if name != "_wandb"},
        history=rows,
        definitions=definitions,
        artifacts=tuple(artifacts),
        exit_code=exit_code,
    )


def _path(item: Any) -> list[str]:
    return list(item.nested_key) or [item.key]


def _update(target: dict[str, Any], items: Any) -> dict[str, Any]:
    for item in items:
        node = target
        *above, name = _path(item)
        for part in above:
            inner = node.get(part)
            node[part] = inner if isinstance(inner, dict) else {}
            node = node[part]
        node[name] = json.loads(item.value_json)
    return target


def _remove(target: dict[str, Any], path: Sequence[str]) -> None:
    *above, name = path
    node: Any = target
    for part in above:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    if isinstance(node, dict):
        node.pop(name, None)


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}".replace("/", ".")] = value
    return flat


def _definition(metric: Any) -> dict[str, dict[str, str]]:
    kinds = [field.name for field, value in metric.summary.ListFields() if value is True]
    told = {"step": metric.step_metric, "summary": ",".join(kinds)}
    return {metric.name or metric.glob_name: told}


def _artifact(record: Any) -> LoggedArtifact:
    return LoggedArtifact(
        name=record.name,
        type=record.type,
        aliases=tuple(record.aliases),
        metadata=json.loads(record.metadata or "{}"),
        files={entry.path: Path(entry.local_path) for entry in record.manifest.contents},
    )


def _records(file: Path) -> Iterator[Any]:
    """Yield the messages of a file, up to what a process that died was writing.

    Raises:
        ValueError: If it is none of wandb's files.
    """
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    for content in _contents(file):
        record = messages.Record()
        record.ParseFromString(content)
        yield record


def _contents(file: Path) -> Iterator[bytes]:
    data = file.read_bytes()
    if not _HEADER.pack(b":W&B", 0xBEE1, 0).startswith(data[: _HEADER.size - 1]):
        raise ValueError(f"{file}: expected a file of wandb, got {data[:7]!r} at its beginning")
    place, content = _HEADER.size, b""
    while True:
        left = _BLOCK - place % _BLOCK
        if left < _CHUNK.size:
            place += left
        if place + _CHUNK.size > len(data):
            return
        checksum, length, kind = _CHUNK.unpack_from(data, place)
        place += _CHUNK.size
        chunk = data[place : place + length]
        place += length
        if len(chunk) < length or zlib.crc32(bytes([kind]) + chunk) != checksum:
            return  # half written
        content = chunk if kind in (_WHOLE, _FIRST) else content + chunk
        if kind in (_WHOLE, _LAST):
            yield content
