"""One folder an identity, captions in a text file beside each image."""

from pathlib import Path

from tireid.data.records import SPLITS, Record, Splits, refuse_shared_ids


def read_folders(root: str | Path | None) -> Splits:
    """Read `root/<split>/<pid>/<name>.jpg` with the captions in `<name>.txt`, one a line.

    Args:
        root: The folder that holds `train`, `val` and `test`.

    Returns:
        Records for each split.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If an identity is in two splits.
    """
    folder = Path(root or "").resolve()
    if not (folder / "train").is_dir():
        raise FileNotFoundError(f"dataset.root: expected train, val, test in {folder}")
    splits: Splits = {}
    for split in SPLITS:
        images = sorted((folder / split).glob("*/*.jpg"))
        splits[split] = [
            Record(image, int(image.parent.name), _captions(image), position)
            for position, image in enumerate(images)
        ]
    refuse_shared_ids(splits, folder)
    return splits


def _captions(image: Path) -> tuple[str, ...]:
    lines = image.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())
