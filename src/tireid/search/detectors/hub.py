"""People by an object detector of transformers, from the Hugging Face hub or a folder."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from tireid.encoders.pretrained import quiet_library
from tireid.runs.hub_folder import check_hub_folder
from tireid.search.detectors.interface import Person, inside

DFINE = "ustc-community/dfine-nano-coco"  # the smallest: 15 MB, Apache-2.0
_LEAST_SCORE = 0.5
_PERSON = "person"


class HubDetector:
    """Finds people with any `AutoModelForObjectDetection`; see `Detector`.

    Args:
        source: Name on the hub, or folder written by `save_pretrained`; its code is not run.
        device: Device to compute on.

    Raises:
        ValueError: If it cannot be read, or knows no label `person`.
    """

    def __init__(self, source: str, device: str) -> None:
        try:
            if (folder := Path(source)).is_dir():
                check_hub_folder(folder)
            with quiet_library():
                self._processor: Any = AutoImageProcessor.from_pretrained(source)
                model: Any = AutoModelForObjectDetection.from_pretrained(
                    source, use_safetensors=True
                )
        except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError) as error:
            raise ValueError(
                f"detect: expected an object detector in {source!r}, got {type(error).__name__}: "
                f"{error}"
            ) from error
        labels: dict[int, str] = model.config.id2label
        self._person = {key for key, label in labels.items() if label.lower() == _PERSON}
        if not self._person:
            known = ", ".join(sorted(labels.values())[:9])
            raise ValueError(f"detect: expected a label {_PERSON!r} in {source}, got {known}")
        self._device = torch.device(device)
        self._model = model.eval().to(self._device)

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> list[Person]:
        """See `Detector.__call__`."""
        inputs = self._processor(images=image, return_tensors="pt").to(self._device)
        (found,) = self._processor.post_process_object_detection(
            self._model(**inputs), threshold=_LEAST_SCORE, target_sizes=[image.size[::-1]]
        )
        people = [
            Person(inside(left, top, right, bottom, image.size), round(score, 4))
            for (left, top, right, bottom), score, label in zip(
                *(found[name].tolist() for name in ("boxes", "scores", "labels")), strict=True
            )
            if label in self._person
        ]
        return [person for person in people if person.box.width and person.box.height]
