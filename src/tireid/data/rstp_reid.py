"""RSTPReid (Zhu et al., ACM MM 2021): 4,101 identities of MSMT17, 5 images, 2 captions each."""

from pathlib import Path
from typing import Any

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


def read_rstp_reid(root: str | Path | None, **options: Any) -> Splits:
    """Read RSTPReid in either release, or any data set in its layout; see `read_layout`.

    Args:
        root: The folder that holds `data_captions.json` and `imgs/`, or its parent.
        **options: `exclude_ids`, `repeats`, and `val_fraction` and `split_seed` for files without a
            val split.
    """
    return read_layout(RSTP_REID, root, **options)
