import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tireid.world import WorldSettings, ensure_world

ITEMS = {
    "cuhk_pedes": (
        "reid_raw.json",
        {"split", "captions", "file_path", "processed_tokens", "id"},
        r"(cam_a|cam_b|CUHK01|CUHK03|Market|test_query|train_query)/p\d+_s\d+\.jpg",
    ),
    "icfg_pedes": (
        "ICFG-PEDES.json",
        {"split", "captions", "file_path", "processed_tokens", "id"},
        r"(train|test)/\d{4}/\d{4}_\d{3}_\d{2}_0303morning_\d{4}_0\.jpg",
    ),
    "rstpreid": (
        "data_captions.json",
        {"id", "img_path", "captions", "split"},
        r"\d{4}_c\d_\d{4}\.jpg",
    ),
}


@pytest.mark.parametrize("layout", ITEMS)
def test_files_are_those_of_the_real_set(layout: str, tiny: WorldSettings, tmp_path: Path):
    settings = replace(tiny, layout=layout)
    root = ensure_world(tmp_path, settings, progress=False)
    name, fields, pattern = ITEMS[layout]
    entries = json.loads((root / name).read_text(encoding="utf-8"))
    assert isinstance(entries, list)
    assert len(entries) == 12
    paths = []
    for entry in entries:
        assert set(entry) == fields
        path = entry.get("file_path", entry.get("img_path"))
        assert re.fullmatch(pattern, path), path
        assert isinstance(entry["captions"], list)
        assert len(entry["captions"]) == (1 if layout == "icfg_pedes" else 2)
        paths.append(path)
        with Image.open(root / "imgs" / path) as image:
            image.load()
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert 80 <= image.height <= 112
            assert 24 <= image.width <= 48
    assert len(set(paths)) == len(paths)
    on_disk = {str(p.relative_to(root / "imgs")) for p in (root / "imgs").rglob("*.jpg")}
    assert on_disk == set(paths)
    counts = [sum(e["split"] == split for e in entries) for split in ("train", "val", "test")]
    assert counts == ([8, 0, 4] if layout == "icfg_pedes" else [6, 2, 4])
    split_of: dict[int, set[str]] = {}
    for entry in entries:
        split_of.setdefault(entry["id"], set()).add(entry["split"])
    assert all(len(splits) == 1 for splits in split_of.values())
    assert len(split_of) == 6
    assert json.loads((root / "settings.json").read_text()) == settings.to_dict()


def test_icfg_folders_are_not_the_split(tmp_path: Path, tiny: WorldSettings):
    root = ensure_world(tmp_path, replace(tiny, layout="icfg_pedes"), progress=False)
    entries = json.loads((root / "ICFG-PEDES.json").read_text())
    assert any(entry["file_path"].split("/")[0] != entry["split"] for entry in entries)
