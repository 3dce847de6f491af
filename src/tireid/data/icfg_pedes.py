"""ICFG-PEDES (Ding et al., arXiv 2107.12666): 4,102 identities of MSMT17, one caption an image."""

from pathlib import Path
from typing import Any

from tireid.data.annotations import Layout, read_layout
from tireid.data.records import Splits

ICFG_PEDES = Layout(
    name="ICFG-PEDES",
    annotation_files=("ICFG-PEDES.json", "ICFG_PEDES.json"),
    path_field="file_path",
    foreign_files={
        "reid_raw.json": "this is CUHK-PEDES; use dataset=cuhk_pedes",
        "data_captions.json": "this is RSTPReid; use dataset=rstpreid",
    },
)


def read_icfg_pedes(root: str | Path | None, **options: Any) -> Splits:
    """Read ICFG-PEDES, or any data set in its layout; see `read_layout`.

    The data set has no val split: `val_fraction=0` leaves it without one. The folders `train/` and
    `test/` below `imgs/` are those of MSMT17 and say nothing about the split. LGUR's release leaves
    out the identity 1369 by mistake.

    Args:
        root: The folder that holds `ICFG-PEDES.json` and `imgs/`, or its parent.
        **options: `exclude_ids`, `repeats`, `val_fraction` and `split_seed`.
    """
    return read_layout(ICFG_PEDES, root, **options)
