"""Images: unreadable or the same as others; each file is decoded once and remembered."""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tireid.data.images import decode, failures, mark_as_checked
from tireid.data.records import Record, Splits
from tireid.doctor.findings import SHOWN, Finding, first, number
from tireid.doctor.missing import missing_findings
from tireid.files import file_sha256, write_json
from tireid.runs.foreign import read_json

_COLUMNS, _ROWS = 16, 16  # signs of a fingerprint
_BRIGHTER = 2  # of 255 levels, by which compression does not change a pixel of a small image
_BAND = 4  # bytes: of eight bands, a near copy has one in common
_NEAR = 12  # differing signs of 256: of recompressed images; of others 65 and more
_PLAIN = 16  # signs that are set in an image which shows nothing
_CROWD = 50  # images with a band in common: too many to compare, of something plain


class Facts(NamedTuple):
    """What is remembered of an image file.

    Attributes:
        size: In bytes.
        changed: Time of its last change in ns.
        sha256: Of its content; empty if it cannot be decoded.
        signs: Perceptual fingerprint in hexadecimal; empty if it cannot be decoded.
    """

    size: int
    changed: int
    sha256: str
    signs: str


def image_findings(
    splits: Splits, image_root: Path, memory: Path, *, progress: bool = True
) -> tuple[dict[Path, str], list[Finding]]:
    """Decode every image that was not decoded before, and return what is wrong with any.

    Args:
        splits: Records of each split.
        image_root: The folder of the images.
        memory: Folder of the marks by which training and this function remember files.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The files that cannot be used, each with the reason, and the findings.
    """
    records = [record for group in splits.values() for record in group]
    paths = list(dict.fromkeys(record.image_path for record in records))
    missing = {path for path in paths if not path.exists()}
    present = [path for path in paths if path not in missing]
    facts, broken = _examine(present, image_root, memory, progress=progress)
    if paths and not missing and not broken:
        mark_as_checked(paths, memory)
    findings = missing_findings(splits, missing, image_root)
    if broken:
        names = (message.removeprefix(f"{image_root}/") for _, message in broken)
        title = f"{len(broken):,} of {number(len(present), 'image')} cannot be read"
        advice = "training refuses them: get these files anew, or remove their entries (--fix FILE)"
        findings.append(Finding(title, advice, examples=first(names)))
    unusable = dict.fromkeys(missing, "does not exist") | dict(broken)
    return unusable, [*findings, *_copies(splits, facts, image_root)]


def _examine(
    paths: Sequence[Path], image_root: Path, memory: Path, *, progress: bool
) -> tuple[dict[Path, Facts], list[tuple[Path, str]]]:
    """Return facts of the files that can be decoded, and messages of the others."""
    file = memory / f"{hashlib.sha256(str(image_root).encode()).hexdigest()[:16]}.json"
    known, facts = _remembered(file), dict[Path, Facts]()
    for path in paths:
        old = known.get(str(path))
        state = path.stat()
        if old and (old.size, old.changed) == (state.st_size, state.st_mtime_ns):
            facts[path] = old

    def look(path: Path) -> None:
        signs = _signs(decode(path))
        state = path.stat()
        facts[path] = Facts(state.st_size, state.st_mtime_ns, file_sha256(path), signs)

    unknown = [path for path in paths if path not in facts]
    broken = failures(look, unknown, "Decoding images", progress=progress)
    facts = {path: facts[path] for path in paths if path in facts}  # in order, whoever was first
    if len(broken) < len(unknown):
        try:
            memory.mkdir(parents=True, exist_ok=True)
            write_json(file, {str(path): list(fact) for path, fact in facts.items()})
        except OSError as error:
            warnings.warn(f"the images will be decoded again next time: {error}", stacklevel=3)
    return facts, broken


def _remembered(file: Path) -> dict[str, Facts]:
    try:
        content = read_json(file, "facts of images", {str: [int | str]})
        return {path: Facts(*fact) for path, fact in content.items()}
    except (OSError, ValueError, TypeError):  # none, or another version's: all are decoded again
        return {}


def _signs(image: Image.Image) -> str:
    """Return of each pixel of the image in small whether its right neighbour is brighter."""
    small = image.convert("L").resize((_COLUMNS + 1, _ROWS), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.int16)
    return np.packbits(pixels[:, 1:] > pixels[:, :-1] + _BRIGHTER).tobytes().hex()


def _copies(splits: Splits, facts: dict[Path, Facts], image_root: Path) -> list[Finding]:
    of_path = {r.image_path: (split, r) for split, records in splits.items() for r in records}
    same: defaultdict[str, list[Path]] = defaultdict(list)
    for path, fact in facts.items():
        same[fact.sha256].append(path)
    exact = {pair for paths in same.values() for pair in combinations(paths[:_CROWD], 2)}
    near = _near(facts) - exact
    return [
        *_pairs(exact, "the same file twice", of_path, image_root),
        *_pairs(near, "nearly the same image twice", of_path, image_root),
    ]


def _near(facts: dict[Path, Facts]) -> set[tuple[Path, Path]]:
    """Return pairs of images whose fingerprints differ in a few signs."""
    bands: defaultdict[tuple[int, bytes], list[tuple[Path, int]]] = defaultdict(list)
    for path, fact in facts.items():
        signs = bytes.fromhex(fact.signs)
        value = int.from_bytes(signs)
        if value.bit_count() > _PLAIN:
            for start in range(0, len(signs), _BAND):
                band = signs[start : start + _BAND]
                if any(band):
                    bands[start, band].append((path, value))
    return {
        (one, other)
        for members in bands.values()
        if len(members) <= _CROWD
        for (one, signs), (other, others) in combinations(members, 2)
        if (signs ^ others).bit_count() <= _NEAR
    }


def _pairs(
    pairs: Iterable[tuple[Path, Path]],
    what: str,
    of_path: dict[Path, tuple[str, Record]],
    image_root: Path,
) -> list[Finding]:
    """Return what copies do: leak between splits, contradict as to identity, or only repeat."""
    kinds: defaultdict[tuple[bool, str], list[tuple[Path, Path]]] = defaultdict(list)
    for one, other in sorted(pairs):
        (split, record), (split2, record2) = of_path[one], of_path[other]
        if split != split2:
            kinds[True, f"once in {split} and once in {split2}"].append((one, other))
        elif record.pid != record2.pid:
            kinds[True, f"of two identities of {split}"].append((one, other))
        else:
            kinds[False, f"of one identity of {split}"].append((one, other))
    exactly = what.startswith("the same")
    return [
        Finding(
            f"{what}, {kind}: {number(len(found), 'pair')}",
            "look at them and remove the wrong ones" if harms else "harmless but for the counts",
            harms=harms and exactly,
            examples=first(
                f"{one.relative_to(image_root)} and {other.relative_to(image_root)}"
                for one, other in found
            ),
            images=tuple(path for pair in found[:SHOWN] for path in pair),
        )
        for (harms, kind), found in kinds.items()
        if harms or exactly  # one person's images may well look alike
    ]
