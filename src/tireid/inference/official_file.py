"""Where a checkpoint of an official code lies: a file, one on the model hub, one in an archive."""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tireid.runs.foreign import regular_file
from tireid.runs.hub import download, is_hub_address
from tireid.runs.official import some

_PATTERNS = ("*.pth", "*.pth.tar", "*.tar")  # of what official codes publish


@contextmanager
def official_file(address: str, member: str | None) -> Iterator[Path]:
    """Yield a checkpoint as a local file; one in an archive is unpacked for as long.

    Args:
        address: The file, or `hf://OWNER/NAME` or `hf://OWNER/NAME/FILE` on the hub, the revision
            behind the name as `@REVISION`. It may be a tar archive.
        member: The checkpoint in such an archive; None: its only one.

    Raises:
        FileNotFoundError: If there is no such file, repository or member.
        ValueError: If the file holds none or several and none is named, or no file can be read.
    """
    path = _downloaded(address) if is_hub_address(address) else Path(address)
    archive = _as_archive(regular_file(path)) if path.exists() else None
    if archive is None:
        if member is not None:
            raise ValueError(f"member: expected null for {path}, which is no archive, got {member}")
        yield path
        return
    with archive, TemporaryDirectory() as folder:
        entry = _chosen(archive, member, path)
        unpacked = Path(folder) / "checkpoint"
        content = archive.extractfile(entry)
        if content is None:  # of an entry that is no file
            raise ValueError(f"{path}: expected a file in the archive, got {entry.name}")
        with content, unpacked.open("wb") as file:
            shutil.copyfileobj(content, file)
        try:
            yield unpacked
        except ValueError as error:
            message = str(error).replace(str(unpacked), f"{path}: {entry.name}")
            raise ValueError(message) from error


def _as_archive(path: Path) -> tarfile.TarFile | None:
    try:
        return tarfile.open(path, "r:")  # a compressed one could be far larger than it is
    except tarfile.TarError:
        return None


def _downloaded(address: str) -> Path:
    parts = address.removeprefix("hf:").lstrip("/").split("/")
    repository, file = f"hf://{'/'.join(parts[:2])}", "/".join(parts[2:])
    folder = download(repository, [file] if file else _PATTERNS)
    found = {path for pattern in _PATTERNS for path in folder.rglob(pattern)}
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    if not file and len(names) == 1:
        file = names[0]
    if not file or not (folder / file).exists():
        raise FileNotFoundError(
            f"{address}: expected one checkpoint, {repository}/FILE, got {some(names)}"
        )
    return folder / file


def _chosen(archive: tarfile.TarFile, member: str | None, path: Path) -> tarfile.TarInfo:
    members = {entry.name: entry for entry in archive if entry.isreg() and not entry.issparse()}
    names = sorted(name for name in members if name.endswith((".pth", ".pth.tar")))
    if member is None and len(names) == 1:
        member = names[0]
    if member is None or member not in members:
        raise ValueError(
            f"{path}: expected the name of a checkpoint in this archive, member=NAME, got "
            f"{member}; it holds {some(names)}"
        )
    return members[member]
