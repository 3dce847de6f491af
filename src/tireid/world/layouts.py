"""File names and annotation files of the real sets, so that their own parsers read a world."""

import json
import re
from pathlib import Path
from typing import Any

from tireid.world.identities import Identity
from tireid.world.settings import WorldSettings

ANNOTATION_FILES = {
    "cuhk_pedes": "reid_raw.json",
    "icfg_pedes": "ICFG-PEDES.json",
    "rstpreid": "data_captions.json",
}
CUHK_FOLDERS = ("cam_a", "cam_b", "CUHK01", "CUHK03", "Market", "test_query", "train_query")
_WORD = re.compile(r"[a-z0-9'-]+")


def image_path(layout: str, identity: Identity, camera: int, index: int) -> str:
    """Return the path of an image below `imgs/`, named as in the real set.

    Args:
        layout: One of `settings.LAYOUTS`.
        identity: The identity in the image.
        camera: Number of the camera, 0-based.
        index: Number of the image among those of the identity, 0-based.
    """
    pid = identity.pid
    match layout:
        case "cuhk_pedes":
            return f"{CUHK_FOLDERS[camera]}/p{pid}_s{identity.ordinal * 100 + index}.jpg"
        case "icfg_pedes":
            # MSMT17's folders, which are not the split: a parser must not read it from the path.
            folder = "train" if identity.ordinal % 2 else "test"
            name = f"{pid:04d}_{index:03d}_{camera + 1:02d}_0303morning_{index:04d}_0.jpg"
            return f"{folder}/{pid:04d}/{name}"
        case _:
            return f"{pid:04d}_c{camera + 1}_{index:04d}.jpg"


def annotation(layout: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return one entry of the annotation file.

    Args:
        layout: One of `settings.LAYOUTS`.
        row: Ground truth of the image, with `path`, `pid`, `split` and `captions`.
    """
    captions = [caption["text"] for caption in row["captions"]]
    if layout == "rstpreid":
        return {
            "id": row["pid"],
            "img_path": row["path"],
            "captions": captions,
            "split": row["split"],
        }
    return {
        "split": row["split"],
        "captions": captions,
        "file_path": row["path"],
        "processed_tokens": [_WORD.findall(caption.lower()) for caption in captions],
        "id": row["pid"],
    }


def write_annotations(folder: Path, settings: WorldSettings, rows: list[dict[str, Any]]) -> None:
    """Write annotation file, ground truth and settings of a world into its folder."""
    entries = [annotation(settings.layout, row) for row in rows]
    target = folder / ANNOTATION_FILES[settings.layout]
    target.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    truth = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "ground_truth.jsonl").write_text(truth, encoding="utf-8")
    (folder / "settings.json").write_text(
        json.dumps(settings.to_dict(), indent=1) + "\n", encoding="utf-8"
    )
