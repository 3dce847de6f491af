"""Read what a run folder holds of its W&B run, in order to continue it without the server.

wandb writes each run into `run-<id>.wandb`, a log in LevelDB's layout: blocks of 32 KiB with chunks
of checksum, length, kind and content; the chunks of a record hold one message of wandb's protocol.
"""

import json
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ID_FILE = "wandb_id.txt"  # in a run folder: the id of its current W&B run
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
        summary: Numbers and texts of its summary, by name.
        last_step: Last value of wandb's own step counter; None if nothing was logged.
    """

    id: str
    files: tuple[Path, ...]
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    summary: dict[str, Any]
    last_step: int | None


def read_offline_run(folder: Path) -> OfflineRun:
    """Read the run of a folder; of several, the one named in `wandb_id.txt`, else the newest.

    Args:
        folder: A run folder, its `wandb/`, or the folder of one part in that.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a file was not written by wandb.
        ModuleNotFoundError: If wandb is not installed.
    """
    runs = read_offline_runs(folder)
    file = folder / ID_FILE
    current = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return next((run for run in runs if run.id == current), runs[-1])


def read_offline_runs(folder: Path) -> list[OfflineRun]:
    """Read all runs of a folder, oldest first; arguments and errors as `read_offline_run`."""
    parts: dict[str, list[Path]] = {}
    for file in _files(folder):
        parts.setdefault(file.stem.removeprefix("run-"), []).append(file)
    runs = [run for files in parts.values() if (run := _read(files)) is not None]
    if not runs:
        raise FileNotFoundError(
            f"{folder}: expected a run of Weights & Biases in it (wandb/offline-run-*/run-*.wandb)"
        )
    return runs


def find_offline_run(folder: Path, id: str | None) -> OfflineRun | None:
    """Return the run with an id that a folder holds; None if there is none, or it is unreadable."""
    try:
        return next((run for run in read_offline_runs(folder) if run.id == id), None)
    except (FileNotFoundError, ValueError):
        return None


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
    run: Any = None
    summary: dict[str, Any] = {}
    last_step: int | None = None
    for file in files:
        for record in read_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run
                summary |= _values(run.summary.update)
            elif kind == "summary":
                summary |= _values(record.summary.update)
            elif kind == "history":
                step = int(_values(record.history.item)["_step"])
                last_step = step if last_step is None else max(step, last_step)
    if run is None:
        return None
    return OfflineRun(
        id=run.run_id,
        files=tuple(files),
        name=run.display_name,
        group=run.run_group,
        job_type=run.job_type,
        tags=tuple(run.tags),
        summary=summary,
        last_step=last_step,
    )


def _values(items: Any) -> dict[str, Any]:
    """Return the values that are not inside another one."""
    names = [(list(item.nested_key) or [item.key], item.value_json) for item in items]
    return {name[0]: json.loads(value) for name, value in names if len(name) == 1}


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
