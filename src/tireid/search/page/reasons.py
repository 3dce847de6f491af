"""Why a result was found, as the page shows it: words with weights, a map, and the map in words."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from tireid.search.why import Reasons

_COLOUR = (255, 212, 0)  # seen on clothes of most colours
_GREY, _STRONGEST = 0.35, 0.75  # brightness of the image, share of the colour
_LEAST_HEIGHT = 384  # small models see few pixels
_THIRDS = ("top", "middle", "bottom")


def shown_reasons(words: Sequence[str], reasons: Reasons) -> dict[str, Any]:
    """Return reasons for the browser: the map as an image in an address, and as a sentence."""
    shown: dict[str, Any] = {
        "score": reasons.score,
        "words": [
            {"word": word, "weight": weight}
            for word, weight in zip(words, reasons.words, strict=True)
        ],
    }
    if reasons.places is None:
        return shown | {"map": "", "places": "The model is too slow here for a map of the places."}
    content = io.BytesIO()
    _drawn(reasons.seen, reasons.places).save(content, "JPEG", quality=88)
    address = "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
    return shown | {"map": address, "places": _in_words(reasons.places)}


def _drawn(
    seen: UInt8[Tensor, "3 height width"], places: Float[Tensor, "rows columns"]
) -> Image.Image:
    """Return the image in grey, coloured where the score comes from."""
    _, height, width = seen.shape
    grey = _GREY * seen.float().mean(dim=0) + (1 - _GREY) * 255 / 2
    weights = places.clamp(min=0) / places.max().clamp(min=torch.finfo().tiny)
    alpha = _STRONGEST * torch.nn.functional.interpolate(weights[None, None], (height, width))[0, 0]
    colour = torch.tensor(_COLOUR)[:, None, None]
    pixels = (1 - alpha) * grey + alpha * colour
    image = Image.fromarray(pixels.round().to(torch.uint8).permute(1, 2, 0).numpy())
    factor = max(1, _LEAST_HEIGHT // height)
    return image.resize((factor * width, factor * height))


def _in_words(places: Float[Tensor, "rows columns"]) -> str:
    gains = places.clamp(min=0)
    if not gains.any():
        return "No place of the image carries the score: covering any of them does not lower it."
    thirds = [3 * (2 * row + 1) // (2 * len(gains)) for row in range(len(gains))]
    shares = torch.zeros(len(_THIRDS)).index_add(0, torch.tensor(thirds), gains.sum(dim=1))
    parts = [
        f"{100 * float(share):.0f} % from the {name} third"
        for name, share in zip(_THIRDS, shares / gains.sum(), strict=True)
    ]
    row, column = divmod(int(gains.argmax()), gains.shape[1])
    return (
        f"The score comes {', '.join(parts[:-1])} and {parts[-1]} of the image; most from row "
        f"{row + 1} of {len(gains)}, column {column + 1} of {gains.shape[1]}."
    )
