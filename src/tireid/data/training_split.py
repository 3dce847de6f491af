"""The training split as it is trained on: without single images, with exchanged captions."""

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_warn

from tireid.data.mismatch import mismatched
from tireid.data.records import Record, renumber
from tireid.data.split_counts import count
from tireid.data.supports import SupportSettings, with_several_images


def training_split(
    records: Sequence[Record],
    name: str,
    supports: SupportSettings | None,
    noise: float | str,
    seed: int,
) -> list[Record]:
    """Return the records to train on, and warn of what is left out.

    Args:
        records: The training split as it was read.
        name: The data set, for messages.
        supports: Of the support sets; `short=drop` leaves out identities with one image.
        noise: As `mismatched` takes it; 0 exchanges nothing.
        seed: Key of the exchange.
    """
    kept = list(records)
    if supports is not None and supports.short == "drop":
        kept = renumber(with_several_images(records))
        before = count(records)["ids"]
        if dropped := before - count(kept)["ids"]:
            rank_zero_warn(
                f"{name}: {dropped} of {before} training identities have one image and are left "
                "out, as supports.short=drop asks"
            )
    return mismatched(kept, noise, seed) if noise != 0 else kept
