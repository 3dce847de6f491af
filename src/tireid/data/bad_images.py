"""Images that cannot be read: refused, or left out of the training split up to a share of it."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from tireid.data.images import SHOWN, unreadable_images, verify_images
from tireid.data.records import Splits, renumber


def without_bad_images(
    splits: Splits, share: float, marks: Path, *, name: str, progress: bool = True
) -> tuple[Splits, dict[Path, str]]:
    """Decode every image once, and return the splits without what training may do without.

    Args:
        splits: Records of each split.
        share: Share of the training images that may be left out, in [0, 1].
        marks: As in `verify_images`.
        name: The data set, for messages.
        progress: As in `verify_images`.

    Returns:
        The splits, and why each image that is left out cannot be read.

    Raises:
        ValueError: If more of the training images, or any other, cannot be read; says how many and
            names the first few.
    """
    paths = {split: [r.image_path for r in records] for split, records in splits.items()}
    spared = paths.pop("train", []) if share else []
    verify_images([path for own in paths.values() for path in own], marks, progress=progress)
    bad = unreadable_images(spared, marks, progress=progress) if spared else {}
    if not bad:
        return splits, {}
    kept = [record for record in splits["train"] if record.image_path not in bad]
    number, whole = len(spared) - len(kept), len(spared)
    found = f"{number} of {whole} training images ({number / whole:.2%}) cannot be read"
    shown = "\n  ".join(list(bad.values())[:SHOWN])
    if number > share * whole:
        raise ValueError(
            f"{name}: {found}, more than dataset.bad_images={share} allows; the first are\n  "
            f"{shown}\nDownload them again, or set dataset.bad_images={number / whole:.4f} or more"
        )
    people = len({r.pid for r in splits["train"]} - {r.pid for r in kept})
    gone = f", and with them {people} identities" if people else ""
    rank_zero_warn(f"{name}: {found} and are left out{gone}; the first are\n  {shown}")
    return splits | {"train": renumber(kept)}, bad
