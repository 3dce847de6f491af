"""Settings of a synthetic world, with their ranges and checks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LAYOUTS = ("cuhk_pedes", "icfg_pedes", "rstpreid")
VERSIONS = (1, 2)
MAX_CAMERAS = 7


@dataclass(frozen=True)
class WorldSettings:
    """Settings of a world; equal settings give byte-identical files.

    Attributes:
        layout: Data set whose file layout is written: `cuhk_pedes`, `icfg_pedes` or `rstpreid`.
        num_train_ids: Identities of the train split, at least 1.
        num_val_ids: Identities of the validation split, at least 0. `icfg_pedes` has no such split:
            there they are written as train identities.
        num_test_ids: Identities of the test split, at least 0.
        images_per_id: Images of each identity, from different views and cameras, at least 1.
        captions_per_image: Captions of each image, at least 1. `icfg_pedes` has one caption an
            image by definition: there only the first is written.
        image_size: Nominal height and width in pixels; the images vary around it, as crops do.
        num_cameras: Cameras, 1 to 7, each with its own light, colour cast, blur, noise, JPEG
            quality and surroundings.
        twin_fraction: Share of the identities of each split that have a near twin in that split,
            differing in one or two attributes, 0 to 1.
        caption_detail: Mean share of the visible attributes that a caption mentions, 0 to 1. Single
            captions vary around it.
        caption_noise: Probability that one attribute that a caption mentions is misnamed, 0 to 1.
        occlusion: Probability that something stands in front of the person, 0 to 1.
        seed: Seed of all draws, at least 0.
        version: 2 draws and names more than 1: age, belts, scarves, ties, socks, watches, bicycles,
            further clothes and patterns, in the words of real captions. 1 is the world of earlier
            versions of this package, byte for byte.

    Raises:
        ValueError: If a setting is out of its range; names the setting and the range.
    """

    layout: str = "cuhk_pedes"
    num_train_ids: int = 1500
    num_val_ids: int = 100
    num_test_ids: int = 200
    images_per_id: int = 4
    captions_per_image: int = 2
    image_size: Sequence[int] = (192, 72)
    num_cameras: int = 7
    twin_fraction: float = 0.25
    caption_detail: float = 0.6
    caption_noise: float = 0.0
    occlusion: float = 0.2
    seed: int = 0
    version: int = 1

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        self._check_int("num_train_ids", 1)
        self._check_int("num_val_ids", 0)
        self._check_int("num_test_ids", 0)
        self._check_int("images_per_id", 1)
        self._check_int("captions_per_image", 1)
        self._check_int("num_cameras", 1, MAX_CAMERAS)
        self._check_int("seed", 0)
        self._check_int("version", VERSIONS[0], VERSIONS[-1])
        for name in ("twin_fraction", "caption_detail", "caption_noise", "occlusion"):
            self._check_share(name)
        self._check_image_size()

    @property
    def num_ids(self) -> int:
        """Identities of all splits together."""
        return self.num_train_ids + self.num_val_ids + self.num_test_ids

    @property
    def captions_written(self) -> int:
        """Captions of each image in the files: 1 for `icfg_pedes`."""
        return 1 if self.layout == "icfg_pedes" else self.captions_per_image

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values that JSON can hold; version 1 is left out."""
        values = {**asdict(self), "image_size": list(self.image_size)}
        if self.version == 1:  # which the files of earlier versions do not name
            del values["version"]
        return values

    def _check_int(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        wanted = f"a whole number >= {low}" if high is None else f"a whole number {low} to {high}"
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < low or (high is not None and value > high):
            raise ValueError(f"{name}: expected {wanted}, got {value!r}; write e.g. {name}={low}")

    def _check_share(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(
                f"{name}: expected a number from 0 to 1, got {value!r}; write e.g. {name}=0.5"
            )
        object.__setattr__(self, name, float(value))

    def _check_image_size(self) -> None:
        size = tuple(self.image_size)
        whole = all(isinstance(side, int) and not isinstance(side, bool) for side in size)
        if len(size) != 2 or not whole or not (48 <= size[0] <= 1024 and 16 <= size[1] <= 512):
            raise ValueError(
                "image_size: expected (height, width) with height 48 to 1024 and width 16 to 512, "
                f"got {self.image_size!r}; write e.g. image_size=(192, 72)"
            )
        if not 1.5 <= size[0] / size[1] <= 4.5:
            raise ValueError(
                "image_size: expected a standing person's shape, height 1.5 to 4.5 times width, "
                f"got height {size[0]} and width {size[1]}; write e.g. image_size=(192, 72)"
            )
        object.__setattr__(self, "image_size", size)
