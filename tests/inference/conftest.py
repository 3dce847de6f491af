"""A stand-in of the model hub: its interface over a folder, and its cache with links."""

import hashlib
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError


class Hub:
    """Repositories as folders; `asked` are the files that were downloaded."""

    def __init__(self, folder: Path) -> None:
        self.repositories, self.cache = folder / "hub", folder / "cache"
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.is_offline = False

    def create_repo(self, name, *, private, exist_ok):
        assert exist_ok
        self.private.setdefault(name, private)

    def model_info(self, name):
        return SimpleNamespace(private=self.private[name])

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        assert commit_message
        for file in Path(folder_path).rglob("*"):
            name = file.relative_to(folder_path).as_posix()
            if file.is_file() and any(fnmatch(name, pattern) for pattern in allow_patterns):
                target = self.repositories / repo_id / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)

    def snapshot_download(self, name, *, revision=None, allow_patterns):
        """Link files of a repository from a snapshot to blobs, as the real cache does."""
        repository = self.repositories / name
        if self.is_offline:
            raise LocalEntryNotFoundError(f"no snapshot of {name}\nmore")
        if not repository.is_dir():
            raise FileNotFoundError(f"no repository {name}\nmore")
        cached = self.cache / f"models--{name.replace('/', '--')}"
        snapshot = cached / "snapshots" / (revision or "0123abc")
        for file in repository.rglob("*"):
            inner = file.relative_to(repository).as_posix()
            if not file.is_file() or not any(fnmatch(inner, p) for p in allow_patterns):
                continue
            self.asked.append(inner)
            blob = cached / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, blob)
            (snapshot / inner).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / inner).unlink(missing_ok=True)
            (snapshot / inner).symlink_to(blob)
        snapshot.mkdir(parents=True, exist_ok=True)
        return str(snapshot)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    """Return a hub that stands in for the real one, with a token that may write."""
    stand_in = Hub(tmp_path / "stand-in")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda **_: stand_in)
    monkeypatch.setattr("huggingface_hub.snapshot_download", stand_in.snapshot_download)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_token")
    return stand_in
