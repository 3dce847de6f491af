"""What an LCR2S teacher pays an item and its support set: the attention of its fusions."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tireid.data.datasets import pad_captions
from tireid.data.supports import EMPTY, SplitSupports
from tireid.explanations.blocks import (
    INK,
    PALE,
    SMALL_SIZE,
    TITLE_SIZE,
    bar_block,
    beside,
    framed,
    read_upright,
    rule,
    save_page,
    stack,
    text_block,
)
from tireid.explanations.weighing import Split
from tireid.figures import OWN
from tireid.methods.lcr2s import Lcr2sTeacher

_ORACLE = (
    "ORACLE: the supports are pictures and captions of {split} identities, which a search does not "
    "have. This shows what the teacher attends to and is no retrieval result."
)
_NOTE = (
    "Attention of the teacher's fusions to the anchor (dashed, bold) and to the members of its "
    "support set: other pictures of the person, and captions of those. Mean over heads, then the "
    "least and the most of a head; each set adds up to 100 %."
)
_COLUMN = 112  # width of what is written
_HEIGHT, _TEXT_WIDTH = 190, 760


@torch.no_grad()
def draw_supports(
    teacher: Lcr2sTeacher,
    split: Split,
    supports: SplitSupports,
    queries: Sequence[int],
    path: Path,
    *,
    device: torch.device,
    warning: str,
) -> Path:
    """Write one line a caption: its picture and itself, each with support set and attention.

    Args:
        teacher: Trained.
        split: Where the captions are from.
        supports: Support sets of the split, made of its own identities.
        queries: Positions of captions.
        path: The picture to write.
        device: Where to compute.
        warning: Stands in red above all; may be empty.
    """
    teacher.eval().to(device)
    lines: list[Image.Image] = []
    for query in queries:
        image = split.image_of[query]
        lines.append(
            beside(
                [
                    _images(teacher, split, image, _filled(supports.images[image]), device),
                    _texts(teacher, split, query, _filled(supports.texts[query]), device),
                ],
                40,
            )
        )
    width = max(line.width for line in lines)
    head = [
        text_block(
            "What LCR2S's teacher takes from support sets", width, size=TITLE_SIZE, bold=True
        )
    ]
    if split.name != "train":
        oracle = _ORACLE.format(split=split.name)
        head.append(text_block(oracle, width, bold=True, colour="#C00000"))
    if warning:
        head.append(text_block(warning, width, bold=True, colour="#C00000"))
    head.append(text_block(_NOTE, width, size=SMALL_SIZE, colour=PALE))
    ruled = [block for line in lines for block in (rule(width), line)]
    return save_page(stack([*head, *ruled]), path)


def _filled(slots: Tensor) -> list[int]:
    return [slot for slot in slots.tolist() if slot != EMPTY]


def _images(
    teacher: Lcr2sTeacher, split: Split, anchor: int, members: list[int], device: torch.device
) -> Image.Image:
    shown = [split.records[image].image_path for image in (anchor, *members)]
    pixels = torch.stack([split.load_image(path) for path in shown]).to(device)
    features = teacher.dual.image_features(pixels)
    weights = _attention(teacher.image_fusion, features)
    blocks: list[Image.Image] = []
    for number, path in enumerate(shown):
        picture = read_upright(path)
        wide = round(_HEIGHT * min(0.6, max(0.33, picture.width / picture.height)))
        picture = picture.resize((wide, _HEIGHT), Image.Resampling.BICUBIC)
        own = number == 0
        block = framed(picture, OWN if own else "#999999", dashed=own)
        blocks.append(stack([block, _share(weights[:, number])], 5))
    return beside(blocks, 16)


def _texts(
    teacher: Lcr2sTeacher, split: Split, anchor: int, members: list[int], device: torch.device
) -> Image.Image:
    shown = [split.captions[caption] for caption in (anchor, *members)]
    token_ids, valid = pad_captions(split.tokenizer(shown), split.tokenizer.pad_id)
    features = teacher.dual.text_features(token_ids.to(device), valid.to(device))
    weights = _attention(teacher.text_fusion, features)
    blocks: list[Image.Image] = []
    for number, caption in enumerate(shown):
        own = number == 0
        said = text_block(
            caption, _TEXT_WIDTH, size=SMALL_SIZE, bold=own, colour=INK if own else "#444444"
        )
        blocks.append(beside([_share(weights[:, number]), said], 18))
    return stack(blocks, 12)


def _attention(
    fusion: torch.nn.Module, features: Float[Tensor, "members dim"]
) -> Float[Tensor, "heads members"]:
    """Return what each head pays the first feature, the anchor, and the others."""
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
