"""The layouts of annotation files and their readers, as `dataset=` names them."""

from collections.abc import Callable

from tireid.data.annotations import Layout
from tireid.data.cuhk_pedes import CUHK_PEDES, read_cuhk_pedes
from tireid.data.custom import CUSTOM, read_custom
from tireid.data.icfg_pedes import ICFG_PEDES, read_icfg_pedes
from tireid.data.records import Splits
from tireid.data.rstp_reid import RSTP_REID, read_rstp_reid

LAYOUTS: dict[str, Layout] = {
    "cuhk_pedes": CUHK_PEDES,
    "icfg_pedes": ICFG_PEDES,
    "rstpreid": RSTP_REID,
    "custom": CUSTOM,
}
READERS: dict[str, Callable[..., Splits]] = {
    "cuhk_pedes": read_cuhk_pedes,
    "icfg_pedes": read_icfg_pedes,
    "rstpreid": read_rstp_reid,
    "custom": read_custom,
}
