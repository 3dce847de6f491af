"""ICFG-PEDES (Ding et al., arXiv 2107.12666): 4,102 identities of MSMT17, one caption an image."""

from collections.abc import Sequence
from pathlib import Path

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


def read_icfg_pedes(
    root: str | Path | None,
    *,
    exclude_ids: Sequence[int] = (),
    val_fraction: float = 0.05,
    split_seed: int = 0,
) -> Splits:
    """Read ICFG-PEDES, or any data set in its layout.

    The data set has no val split; the folders `train/` and `test/` below `imgs/` are those of
    MSMT17 and say nothing about the split.

    Args:
        root: The folder that holds `ICFG-PEDES.json` and `imgs/`, or its parent.
        exclude_ids: Identities to leave out. LGUR's release leaves out 1369 by mistake.
        val_fraction: Share of the training identities to hold out for validation, in [0, 1);
            0 leaves the data set without a val split.
        split_seed: Seed of the choice of the identities held out.

    Returns:
        Records for each split.

    Raises:
        FileNotFoundError: If a file or folder is missing; shows the expected tree.
        ValueError: If the annotations are malformed; names the entry.
    """
    return read_layout(
        ICFG_PEDES,
        root,
        exclude_ids=exclude_ids,
        val_fraction=val_fraction,
        split_seed=split_seed,
    )
