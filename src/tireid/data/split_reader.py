"""The splits of a data set as they are used: compared with what is declared, checked, cleaned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from tireid.data.bad_images import without_bad_images
from tireid.data.mismatch import mismatched
from tireid.data.records import Record, Splits, renumber
from tireid.data.split_counts import Counts, check_counts, count, differences
from tireid.data.supports import SupportSettings, with_several_images
from tireid.data.transforms import check_share


@dataclass(frozen=True, slots=True)
class SplitReader:
    """Reads the splits, and warns of what is not as declared and of what is left out.

    Attributes:
        name: The data set, for messages.
        read: Returns the records of each split.
        counts: Declared numbers of each split, as in `differences`.
        other_releases: Counts of other releases, by name, to recognise them.
        bad_share: Share of the training images that may be left out because they cannot be read.
        marks: Folder that remembers which images were checked.
        supports: Of the support sets; `short=drop` leaves out identities with one image.
        noise: Exchange of training captions, as `mismatched` takes it; 0 exchanges nothing.
        seed: Key of the exchange.

    Raises:
        ValueError: If the share or a declared number is none.
    """

    name: str
    read: Callable[[], Splits]
    counts: Counts | None
    other_releases: Mapping[str, Counts]
    bad_share: float
    marks: Path
    supports: SupportSettings | None
    noise: float | str
    seed: int

    def __post_init__(self) -> None:
        check_share("bad_images", self.bad_share)
        check_counts(self.counts, "dataset.counts")

    def readable(self, splits: Splits, *, progress: bool) -> tuple[Splits, dict[Path, str]]:
        """Return splits without the images that training may do without, and why each is left out.

        Raises:
            ValueError: As `without_bad_images`.
        """
        return without_bad_images(
            splits, self.bad_share, self.marks, name=self.name, progress=progress
        )

    def splits(self, *, progress: bool) -> tuple[Splits, dict[Path, str]]:
        """Read the splits, the training split as it is trained on; and the images left out.

        Args:
            progress: Whether the check of images shows how far it is.

        Raises:
            FileNotFoundError: If the data set is missing.
            ValueError: If its files are damaged.
        """
        splits = self.read()
        readable, bad = self.readable(splits, progress=progress)
        for message in differences(splits, self.counts, self.other_releases):
            rank_zero_warn(f"{self.name}, {message}")
        if "train" not in readable:
            return readable, bad
        return readable | {"train": self._training_split(readable["train"])}, bad

    def _training_split(self, records: Sequence[Record]) -> list[Record]:
        kept = list(records)
        if self.supports is not None and self.supports.short == "drop":
            kept = renumber(with_several_images(records))
            before = count(records)["ids"]
            if dropped := before - count(kept)["ids"]:
                rank_zero_warn(
                    f"{self.name}: {dropped} of {before} training identities have one image and "
                    "are left out, as supports.short=drop asks"
                )
        return mismatched(kept, self.noise, self.seed) if self.noise != 0 else kept
