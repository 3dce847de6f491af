"""RSTPReid (Zhu et al., ACM MM 2021): 4,101 identities of MSMT17, 5 images, 2 captions each."""

from collections.abc import Sequence
from pathlib import Path

from tireid.data.annotations import Layout, read_layout
from tireid.data.records import Splits

RSTP_REID = Layout(
    name="RSTPReid",
    annotation_files=("data_captions.json",),
    path_field="img_path",
    foreign_files={
        "reid_raw.json": "this is CUHK-PEDES; use dataset=cuhk_pedes",
        "ICFG-PEDES.json": "this is ICFG-PEDES; use dataset=icfg_pedes",
        "ICFG_PEDES.json": "this is ICFG-PEDES; use dataset=icfg_pedes",
    },
)


def read_rstp_reid(
    root: str | Path | None,
    *,
    exclude_ids: Sequence[int] = (),
    val_fraction: float = 0.05,
    split_seed: int = 0,
) -> Splits:
    """Read RSTPReid in either release, or any data set in its layout.

    Args:
        root: The folder that holds `data_captions.json` and `imgs/`, or its parent.
        exclude_ids: Identities to leave out.
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
        RSTP_REID,
        root,
        exclude_ids=exclude_ids,
        val_fraction=val_fraction,
        split_seed=split_seed,
    )
