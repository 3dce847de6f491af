"""Page of an LCR2S teacher's attention to items and their support sets."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tireid.data.supports import EMPTY, SplitSupports
from tireid.explanations.embedded_split import EmbeddedSplit
from tireid.explanations.query_pages import read_upright
from tireid.figures import OWN
from tireid.figures.pages import (
    INK,
    PALE,
    SMALL_SIZE,
    bar_block,
    beside,
    framed,
    save_page,
    stack,
    text_block,
)
from tireid.files import replacing
from tireid.methods.lcr2s import Lcr2sTeacher

_ORACLE = (
    "ORACLE: the supports are images and captions of {split} identities, which a search does not "
    "have. This shows what the teacher attends to and is no retrieval result."
)
_NOTE = (
    "Attention of the teacher's fusions to the anchor (dashed, bold) and to the members of its "
    "support set: other images of the identity, and captions of those. Mean over heads, then the "
    "least and the most of a head; each set adds up to 100 %."
)
_COLUMN = 112  # width of the numbers
_HEIGHT, _TEXT_WIDTH = 190, 760


@torch.no_grad()
def draw_supports(
    teacher: Lcr2sTeacher,
    split: EmbeddedSplit,
    supports: SplitSupports,
    queries: Sequence[int],
    path: Path,
    *,
    warning: str,
) -> Path:
    """Write one row a caption: its image and the caption, each with support set and attention.

    Args:
        teacher: A trained teacher.
        split: The split of the captions.
        supports: Support sets of the split, of its own identities.
        queries: Positions of captions.
        path: The image file to write.
        warning: Red text above all; may be empty.
    """
    teacher.eval().to(split.device)
    lines: list[Image.Image] = []
    for query in queries:
        image = split.image_of[query]
        images = [image, *_filled(supports.images[image])]
        texts = [query, *_filled(supports.texts[query])]
        lines.append(beside([_images(teacher, split, images), _texts(teacher, split, texts)], 40))
    oracle = "" if split.name == "train" else _ORACLE.format(split=split.name)
    title = "What LCR2S's teacher takes from support sets"
    with replacing(path) as file:
        save_page(file, title, [_NOTE], lines, [oracle, warning])
    return path


def _filled(slots: Tensor) -> list[int]:
    return [slot for slot in slots.tolist() if slot != EMPTY]


def _images(teacher: Lcr2sTeacher, split: EmbeddedSplit, positions: list[int]) -> Image.Image:
    """Return the anchor, the first of some positions, and its support set, with attention."""
    features = teacher.dual.image_features(split.load_images(positions))
    weights = _attention(teacher.image_fusion, features)
    blocks: list[Image.Image] = []
    for number, position in enumerate(positions):
        image = read_upright(split.records[position].image_path)
        width = round(_HEIGHT * min(0.6, max(0.33, image.width / image.height)))
        image = image.resize((width, _HEIGHT), Image.Resampling.BICUBIC)
        block = framed(image, "#999999" if number else OWN, dashed=not number)
        blocks.append(stack([block, _share(weights[:, number])], 5))
    return beside(blocks, 16)


def _texts(teacher: Lcr2sTeacher, split: EmbeddedSplit, positions: list[int]) -> Image.Image:
    """Return the anchor, the first of some positions, and its support set, with attention."""
    shown = [split.captions[position] for position in positions]
    weights = _attention(teacher.text_fusion, teacher.dual.text_features(*split.tokens(shown)))
    blocks: list[Image.Image] = []
    for number, caption in enumerate(shown):
        colour = "#444444" if number else INK
        text = text_block(caption, _TEXT_WIDTH, size=SMALL_SIZE, bold=not number, colour=colour)
        blocks.append(beside([_share(weights[:, number]), text], 18))
    return stack(blocks, 12)


def _attention(
    fusion: torch.nn.Module, features: Float[Tensor, "members dim"]
) -> Float[Tensor, "heads members"]:
    """Return the attention of each head to the anchor, the first feature, and to the others."""
    support = features[None, 1:]
    valid = torch.ones(support.shape[:2], dtype=torch.bool, device=features.device)
    return fusion.attention(features[:1], support, valid)[0].float().cpu()  # pyright: ignore[reportCallIssue] -- a SupportFusion


def _share(weights: Float[Tensor, " heads"]) -> Image.Image:
    """Return a bar and numbers for the attention of all heads to one member."""
    mean, least, most = (float(x) for x in (weights.mean(), weights.min(), weights.max()))
    lines = [text_block(f"{mean:.0%}", _COLUMN, size=SMALL_SIZE)]
    if len(weights) > 1:
        heads = f"heads {100 * least:.0f} to {100 * most:.0f}"
        lines.append(text_block(heads, _COLUMN, size=13, colour=PALE))
    return stack([bar_block(mean, _COLUMN - 8, 10), *lines], 3)
