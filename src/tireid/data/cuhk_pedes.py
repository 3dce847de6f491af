"""CUHK-PEDES (Li et al., CVPR 2017): 13,003 identities, about two captions an image."""

from collections.abc import Sequence
from pathlib import Path

from tireid.data.annotations import Layout, read_layout
from tireid.data.records import Splits

CUHK_PEDES = Layout(
    name="CUHK-PEDES",
    annotation_files=("reid_raw.json",),
    path_field="file_path",
    foreign_files={
        "caption_all.json": "caption_all.json is the older form of the annotations: it lacks the"
        " split of each image; ask the owners for reid_raw.json",
        "captions.json": "captions.json is not the annotation file's name; if it holds the fields"
        " split, captions, file_path and id, rename it to reid_raw.json",
        "ICFG-PEDES.json": "this is ICFG-PEDES; use dataset=icfg_pedes",
        "ICFG_PEDES.json": "this is ICFG-PEDES; use dataset=icfg_pedes",
        "data_captions.json": "this is RSTPReid; use dataset=rstpreid",
    },
)


def read_cuhk_pedes(
    root: str | Path | None,
    *,
    exclude_ids: Sequence[int] = (),
    val_fraction: float = 0.05,
    split_seed: int = 0,
) -> Splits:
    """Read CUHK-PEDES, or any data set in its layout.

    Args:
        root: The folder that holds `reid_raw.json` and `imgs/`, or its parent.
        exclude_ids: Identities to leave out. LGUR's release leaves out 1369, 4116 and 6116, which
            have one training image each.
        val_fraction: Used only when the file has no val split: share of the training identities to
            hold out, in [0, 1).
        split_seed: Seed of the choice of the identities held out.

    Returns:
        Records for each split.

    Raises:
        FileNotFoundError: If a file or folder is missing; shows the expected tree.
        ValueError: If the annotations are malformed; names the entry.
    """
    return read_layout(
        CUHK_PEDES,
        root,
        exclude_ids=exclude_ids,
        val_fraction=val_fraction,
        split_seed=split_seed,
    )
