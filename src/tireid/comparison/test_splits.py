"""The test splits that runs were tested on, where their files are still at their place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tireid.data.records import Record, Splits, split_sha256
from tireid.data.synthetic import synthetic_root
from tireid.inference.build import SETTINGS_ERRORS
from tireid.inference.saved_config import evaluation_config

MADE = "synthetic"  # the data set whose people are made by this package
_READ_MADE = "tireid.data.synthetic.read_synthetic"


@dataclass(frozen=True, slots=True)
class TestSplit:
    """The test split of a data set.

    Attributes:
        root: Folder of the data set.
        records: In the order of the gallery; queries are their captions.
        sha256: Of the records; a run that names the same one was tested on them.
    """

    __test__ = False  # no class of tests

    root: Path
    records: list[Record]
    sha256: str


def read_test_splits(
    tested: Mapping[Path, str], *, pictures: bool = False
) -> tuple[dict[str, TestSplit], dict[str, str]]:
    """Read the test splits of runs from where the runs read them; nothing is made.

    Args:
        tested: SHA-256 of the test split by run folder.
        pictures: Also those of real people, whose pictures are handed out under terms.

    Returns:
        Those that are there, by their SHA-256, and why the others are not.
    """
    found: dict[str, TestSplit] = {}
    missing: dict[str, str] = {}
    for folder, sha256 in tested.items():
        if sha256 in found:
            continue
        try:
            split = _read(folder, pictures=pictures)
            if split.sha256 == sha256:
                found[sha256] = split
            else:
                missing[sha256] = f"{split.root} holds another test split than the runs were on"
        except (OSError, ValueError, KeyError, *SETTINGS_ERRORS) as error:
            missing[sha256] = " ".join(str(error).split())
    return found, {sha256: why for sha256, why in missing.items() if sha256 not in found}


def _read(folder: Path, *, pictures: bool) -> TestSplit:
    dataset = evaluation_config(folder).dataset
    if dataset.read["_target_"] == _READ_MADE:
        root = _made_root(dataset.read)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: expected the embedded data set, got no such folder")
    elif not pictures:
        raise ValueError(
            f"{dataset.name} shows real people and is handed out under terms "
            f"({dataset.get('terms') or 'ask its owners'}); --pictures puts some of them in, for "
            "a page that is not passed on"
        )
    else:
        root = Path(dataset.root)
    splits: Splits = instantiate(dataset.read, _convert_="all")()
    records = splits.get("test") or []
    return TestSplit(root, records, split_sha256(records))


def _made_root(read: DictConfig) -> Path:
    settings: Any = OmegaConf.to_container(read, resolve=True)
    return synthetic_root(**{name: v for name, v in settings.items() if not name.startswith("_")})
