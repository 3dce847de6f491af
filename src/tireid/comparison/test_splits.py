"""Find the test splits of runs, where the data are still in their place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import instantiate

from tireid.data.records import Record, Splits, split_sha256
from tireid.files import resolve_cache_dir
from tireid.inference.build import SETTINGS_ERRORS
from tireid.inference.restore import READ_SYNTHETIC, use_cache
from tireid.inference.saved_config import evaluation_config


@dataclass(frozen=True, slots=True)
class TestSplit:
    """The test split of a data set.

    Attributes:
        root: Folder of the data set.
        records: Records in the order of the gallery; their captions are the queries.
        sha256: Hash of the records, which a run also records.
    """

    __test__ = False  # not a class of tests

    root: Path
    records: list[Record]
    sha256: str


def read_test_splits(
    tested: Mapping[Path, str], *, pictures: bool = False
) -> tuple[dict[str, TestSplit], dict[str, str]]:
    """Read the test splits of runs from their data sets; nothing is generated or downloaded.

    Args:
        tested: SHA-256 of the test split, by run folder.
        pictures: Whether to read real data sets too, whose terms restrict showing their images.

    Returns:
        The splits by SHA-256, and the reasons why others cannot be read, by SHA-256.
    """
    splits: dict[str, TestSplit] = {}
    missing: dict[str, str] = {}
    for folder, sha256 in tested.items():
        if sha256 in splits:
            continue
        try:
            split = _read(folder, pictures=pictures)
            if split.sha256 == sha256:
                splits[sha256] = split
            else:
                missing[sha256] = f"{split.root} holds another test split than that of the runs"
        except (OSError, ValueError, KeyError, *SETTINGS_ERRORS) as error:
            missing[sha256] = " ".join(str(error).split())
    return splits, {sha256: why for sha256, why in missing.items() if sha256 not in splits}


def _read(folder: Path, *, pictures: bool) -> TestSplit:
    dataset = evaluation_config(folder).dataset
    if dataset.read["_target_"] == READ_SYNTHETIC:
        recorded = dataset.read.get("cache_dir")
        root = use_cache(dataset.read, None)
        if root is None:
            places = dict.fromkeys(map(resolve_cache_dir, (recorded, None)))
            raise FileNotFoundError(
                f"expected the synthetic data set in {' or in '.join(map(str, places))}, got no "
                "such folder, or a damaged one"
            )
    elif not pictures:
        raise ValueError(
            f"{dataset.name} shows real people and has terms of use "
            f"({dataset.get('terms') or 'ask its owners'}); --pictures shows some images, in a "
            "report that must not be passed on"
        )
    else:
        root = Path(str(dataset.read.get("root")))
    splits: Splits = instantiate(dataset.read, _convert_="all")()
    records = splits.get("test") or []
    return TestSplit(root, records, split_sha256(records))
