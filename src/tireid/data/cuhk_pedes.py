"""CUHK-PEDES (Li et al., CVPR 2017): 13,003 identities, about two captions an image."""

from pathlib import Path
from typing import Any

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


def read_cuhk_pedes(root: str | Path | None, **options: Any) -> Splits:
    """Read CUHK-PEDES, or any data set in its layout; see `read_layout`.

    LGUR's release leaves out the identities 1369, 4116 and 6116, which have one training image
    each.

    Args:
        root: The folder that holds `reid_raw.json` and `imgs/`, or its parent.
        **options: `exclude_ids`, `repeats`, and `val_fraction` and `split_seed` for files without a
            val split.
    """
    return read_layout(CUHK_PEDES, root, **options)
