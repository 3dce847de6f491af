"""Open a detector by its name."""

from pathlib import Path

from tireid.search.detectors.hog import HogDetector
from tireid.search.detectors.interface import Detector

HOG, DFINE = "hog", "dfine"


def open_detector(name: str, device: str) -> Detector:
    """Return the detector of a name.

    Args:
        name: `hog`, `dfine`, or the hub name or folder of another object detector of transformers.
        device: Device to compute on, for those that can.

    Raises:
        ValueError: If there is none, or what it needs is not installed.
    """
    if name == HOG:
        return HogDetector()
    if name != DFINE and "/" not in name and not Path(name).is_dir():
        raise ValueError(
            f"detect: expected hog, dfine, a hub name (owner/name) or a folder, got {name!r}"
        )
    from tireid.search.detectors import hub  # late: transformers' models take a while

    return hub.HubDetector(hub.DFINE if name == DFINE else name, device)
