import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tireid.world import WorldSettings, ensure_world


@pytest.fixture(scope="session")
def tiny() -> WorldSettings:
    return WorldSettings(
        num_train_ids=3, num_val_ids=1, num_test_ids=2, images_per_id=2, image_size=(96, 36)
    )


@pytest.fixture(scope="session")
def fingerprint() -> Callable[[Path], dict[str, str]]:
    """Hash of every file of a world, by its path."""

    def of(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return of


@pytest.fixture(scope="session")
def read_truth() -> Callable[[Path], list[dict]]:
    def read(folder: Path) -> list[dict]:
        lines = (folder / "ground_truth.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with enough people and captions for statistics."""
    settings = WorldSettings(
        num_train_ids=60,
        num_val_ids=10,
        num_test_ids=20,
        images_per_id=4,
        captions_per_image=3,
        image_size=(96, 36),
        twin_fraction=0.4,
    )
    return ensure_world(tmp_path_factory.mktemp("crowd"), settings, progress=False, num_workers=1)
