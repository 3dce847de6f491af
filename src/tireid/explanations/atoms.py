"""The atoms of a dictionary used most by words and patches, and by which of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from tireid.data.datasets import pad_captions
from tireid.data.tokenizers import TokenPlace
from tireid.explanations.blocks import (
    LESS,
    MORE,
    PALE,
    SMALL_SIZE,
    Caption,
    bar_block,
    beside,
    caption_block,
    framed,
    read_upright,
    rule,
    save_page,
    stack,
    text_block,
)
from tireid.explanations.weighing import Split, evenly, token_grid
from tireid.methods.base import RetrievalModule

_BATCH, _RARE = 32, 3
_WORDS, _PATCHES = 8, 7
_CROP = 104


class DictionaryUse(NamedTuple):
    """What the tokens of a split pay the atoms, in multiples of an even share.

    Attributes:
        by_words: Mean over word tokens; special tokens do not count.
        by_patches: Mean over image tokens.
        words: Mean of each word that occurs often enough, by the word.
        best: The largest payment of each image to each atom.
        place: Which of its tokens pays it.
        image: Position in the gallery of each row of `best`.
        grid: Rows and columns of the image tokens.
        captions: Number of captions looked at.
    """

    by_words: Float[np.ndarray, " atoms"]
    by_patches: Float[np.ndarray, " atoms"]
    words: dict[str, Float[np.ndarray, " atoms"]]
    best: Float[np.ndarray, "images atoms"]
    place: Float[np.ndarray, "images atoms"]
    image: list[int]
    grid: tuple[int, int]
    captions: int


@torch.no_grad()
def dictionary_use(
    model: RetrievalModule, split: Split, *, items: int, device: torch.device
) -> DictionaryUse | None:
    """Measure who uses the atoms; None: the method has no dictionary.

    Args:
        model: A trained method.
        split: What to look at.
        items: Most captions and most images, spread over the split.
        device: Where to compute.
    """
    chosen = evenly(items, len(split.records)).tolist()
    best: list[Tensor] = []
    place: list[Tensor] = []
    patches: list[Tensor] = []
    grid = (1, 1)
    for start in range(0, len(chosen), _BATCH):
        rows = chosen[start : start + _BATCH]
        pixels = torch.stack([split.load_image(split.records[i].image_path) for i in rows])
        maps = model.explain_images(pixels.to(device))
        if maps is None or maps.atoms is None:
            return None
        shares = maps.atoms.float().mean(dim=1) * maps.atoms.shape[-1]  # (batch, length, atoms)
        patches.append(shares.mean(dim=1))
        largest = shares.max(dim=1)
        best.append(largest.values)
        place.append(largest.indices)
        grid = token_grid(shares.shape[1], (pixels.shape[2], pixels.shape[3]))

    captions = split.captions
    asked = evenly(items, len(captions)).tolist()
    sums: dict[str, tuple[Tensor, int]] = {}
    total, tokens = torch.zeros(best[0].shape[1], device=device), 0
    for start in range(0, len(asked), _BATCH):
        texts = [captions[i] for i in asked[start : start + _BATCH]]
        token_ids, valid = pad_captions(split.tokenizer(texts), split.tokenizer.pad_id)
        maps = model.explain_texts(token_ids.to(device), valid.to(device))
        if maps is None or maps.atoms is None:
            return None
        shares = maps.atoms.float().mean(dim=1) * maps.atoms.shape[-1]
        for row, text in enumerate(texts):
            for word, pieces in _words(text, split.tokenizer.places(text)).items():
                paid = shares[row, pieces]
                total, tokens = total + paid.sum(dim=0), tokens + len(pieces)
                known, count = sums.get(word, (torch.zeros_like(total), 0))
                sums[word] = (known + paid.mean(dim=0), count + 1)
    words = {
        word: (paid / count).cpu().numpy() for word, (paid, count) in sums.items() if count >= _RARE
    }
    return DictionaryUse(
        by_words=(total / max(tokens, 1)).cpu().numpy(),
        by_patches=torch.cat(patches).mean(dim=0).cpu().numpy(),
        words=words or {word: (paid / n).cpu().numpy() for word, (paid, n) in sums.items()},
        best=torch.cat(best).cpu().numpy(),
        place=torch.cat(place).cpu().numpy(),
        image=chosen,
        grid=grid,
        captions=len(asked),
    )


def most_used(use: DictionaryUse, count: int) -> list[int]:
    """Return the atoms that both modalities use most, by the geometric mean of the two uses."""
    return np.argsort(-np.sqrt(use.by_words * use.by_patches), kind="stable")[:count].tolist()


def draw_atoms(use: DictionaryUse, split: Split, path: Path, *, count: int, warning: str) -> Path:
    """Write the page of the atoms used most.

    Args:
        use: As measured.
        split: What was looked at.
        path: The picture to write.
        count: Atoms of the page.
        warning: Stands in red above all; may be empty.
    """
    atoms = most_used(use, count)
    largest = float(max(use.by_words.max(), use.by_patches.max()))
    lines = [_atom(atom, use, split, largest) for atom in atoms]
    width = max(line.width for line in lines)
    total = len(use.by_words)
    together = float(np.corrcoef(use.by_words, use.by_patches)[0, 1]) if total > 1 else 1.0
    facts = (
        f"{total} atoms, looked at with {use.captions} captions and {len(use.image)} pictures of "
        f"{split.name}. Half of the words' attention goes to {_half(use.by_words)} atoms, half of "
        f"the patches' to {_half(use.by_patches)}; correlation of the two uses {together:.2f}. "
        f"Numbers are multiples of an even share (1/{total} of a token's attention), mean over "
        "heads: of a word over all places where it occurs; of each picture for the patch with the "
        "most, which is framed and shown with its neighbours."
    )
    head = [
        text_block("Dictionary atoms used most by words and patches", width, size=29, bold=True),
        text_block(facts, width, size=SMALL_SIZE, colour=PALE),
    ]
    if warning:
        head.insert(0, text_block(warning, width, bold=True, colour="#C00000"))
    ruled = [block for line in lines for block in (rule(width), line)]
    return save_page(stack([*head, *ruled]), path)


def _atom(atom: int, use: DictionaryUse, split: Split, largest: float) -> Image.Image:
    bars = [text_block(f"Atom {atom}", 250, bold=True)]
    for name, share, colour in (
        ("words", use.by_words[atom], MORE),
        ("patches", use.by_patches[atom], LESS),
    ):
        bars.append(text_block(f"{name}: {share:.1f} times", 250, size=SMALL_SIZE, colour=PALE))
        bars.append(bar_block(float(share) / largest, 220, 9, colour))
    ranked = sorted(use.words, key=lambda word: (-use.words[word][atom], word))[:_WORDS]
    paid = [float(use.words[word][atom]) for word in ranked]
    shown = [
        f"{word}\N{NO-BREAK SPACE}{share:.1f}" for word, share in zip(ranked, paid, strict=True)
    ]
    words = _list_of_words(shown, paid)
    images = np.argsort(-use.best[:, atom], kind="stable")[:_PATCHES].tolist()
    crops = [_crop(split, use, row, atom) for row in images]
    return beside([stack(bars, 3), words, beside(crops, 10)], 28)


def _list_of_words(shown: list[str], paid: list[float]) -> Image.Image:
    places: list[TokenPlace] = []
    text = ""
    for number, word in enumerate(shown):
        text += "   " if text else ""
        places.append(TokenPlace(len(text), len(text) + len(word), number))
        text += word
    strengths = [share / max(paid[0], 1e-9) for share in paid]
    return caption_block(Caption(text, places), strengths, 470)


def _crop(split: Split, use: DictionaryUse, row: int, atom: int) -> Image.Image:
    """Return a patch with its neighbours, the patch framed, and what it pays."""
    picture = read_upright(split.records[use.image[row]].image_path)
    rows, columns = use.grid
    y, x = divmod(int(use.place[row, atom]), columns)
    high, wide = picture.height / rows, picture.width / columns
    around = min(3, rows, columns)
    top = min(max(y - around // 2, 0), rows - around)
    left = min(max(x - around // 2, 0), columns - around)
    box = (left * wide, top * high, (left + around) * wide, (top + around) * high)
    crop = picture.resize((_CROP, _CROP), Image.Resampling.BICUBIC, box=box)
    step = _CROP / around
    draw = ImageDraw.Draw(crop)
    frame = [(x - left) * step, (y - top) * step, (x - left + 1) * step, (y - top + 1) * step]
    for colour, grown in (("#FFFFFF", 0), ("#000000", 2)):
        inner = [frame[0] + grown, frame[1] + grown, frame[2] - 1 - grown, frame[3] - 1 - grown]
        draw.rectangle(inner, outline=colour, width=2)
    label = text_block(f"{use.best[row, atom]:.1f}", _CROP, size=15, colour=PALE)
    return stack([framed(crop, "#999999", thickness=1), label], 2)


def _words(text: str, places: list[TokenPlace]) -> dict[str, list[int]]:
    """Return the tokens of each word of a caption; of a word that is there twice, those of both."""
    spans: dict[int, list[int]] = {}
    for token, place in enumerate(places):
        if place.word is not None and place.end > place.start:
            spans.setdefault(place.word, []).append(token)
    words: dict[str, list[int]] = {}
    for tokens in spans.values():
        word = text[places[tokens[0]].start : places[tokens[-1]].end].strip().lower()
        if any(letter.isalnum() for letter in word):
            words.setdefault(word, []).extend(tokens)
    return words


def _half(shares: Float[np.ndarray, " atoms"]) -> int:
    falling = np.cumsum(np.sort(shares)[::-1])
    return int(np.searchsorted(falling, falling[-1] / 2)) + 1
