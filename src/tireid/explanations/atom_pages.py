"""Page of the dictionary atoms that words and patches use most."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from tireid.data.tokenizers import TokenPlace
from tireid.explanations.embedded_split import EmbeddedSplit, evenly
from tireid.explanations.query_pages import read_upright
from tireid.explanations.token_weights import token_grid
from tireid.figures.pages import (
    LESS,
    MORE,
    PALE,
    SMALL_SIZE,
    Piece,
    bar_block,
    beside,
    flow_block,
    framed,
    save_page,
    stack,
    text_block,
    tint,
)
from tireid.files import replacing
from tireid.methods.base import RetrievalModule
from tireid.structures import TokenMaps

_BATCH, _RARE = 32, 3
_WORDS, _PATCHES = 8, 7
_CROP = 104


class DictionaryUse(NamedTuple):
    """Attention of a split's tokens to the atoms, in multiples of an even share.

    Attributes:
        by_words: Mean over word tokens; special tokens do not count.
        by_patches: Mean over image tokens.
        words: Mean of each word that occurs often enough, by the word.
        best: The largest attention of each image's tokens to each atom.
        token: Number of the token with that attention.
        image: Position in the gallery of each row of `best`.
        grid: Rows and columns of the image tokens.
        captions: Number of captions measured.
    """

    by_words: Float[np.ndarray, " atoms"]
    by_patches: Float[np.ndarray, " atoms"]
    words: dict[str, Float[np.ndarray, " atoms"]]
    best: Float[np.ndarray, "images atoms"]
    token: Float[np.ndarray, "images atoms"]
    image: list[int]
    grid: tuple[int, int]
    captions: int


@torch.no_grad()
def dictionary_use(
    model: RetrievalModule, split: EmbeddedSplit, *, items: int
) -> DictionaryUse | None:
    """Measure the use of the atoms; None if the method has no dictionary.

    Args:
        model: A trained method.
        split: The split to measure on.
        items: Most captions and most images, spread over the split.
    """
    images = evenly(items, len(split.records)).tolist()
    texts = [split.captions[i] for i in evenly(items, len(split.captions)).tolist()]
    of_images: list[Tensor] = []
    grid = (1, 1)
    for start in range(0, len(images), _BATCH):
        pixels = split.load_images(images[start : start + _BATCH])
        shares = _shares(model.explain_images(pixels))
        if shares is None:
            return None
        of_images.append(shares)
        grid = token_grid(shares.shape[1], (pixels.shape[2], pixels.shape[3]))
    of_word: dict[str, list[Tensor]] = {}  # of its tokens, each time that a caption has the word
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        shares = _shares(model.explain_texts(*split.tokens(batch)))
        if shares is None:
            return None
        for row, text in zip(shares, batch, strict=True):
            for word, tokens in _words(text, split.tokenizer.places(text)).items():
                of_word.setdefault(word, []).append(row[tokens])
    if not of_word:
        return None
    frequent = {word: found for word, found in of_word.items() if len(found) >= _RARE} or of_word
    patches = torch.cat(of_images)
    return DictionaryUse(
        by_words=torch.cat([tokens for found in of_word.values() for tokens in found])
        .mean(dim=0)
        .numpy(),
        by_patches=patches.mean(dim=(0, 1)).numpy(),
        words={
            word: torch.stack([tokens.mean(dim=0) for tokens in found]).mean(dim=0).numpy()
            for word, found in frequent.items()
        },
        best=patches.amax(dim=1).numpy(),
        token=patches.argmax(dim=1).numpy(),
        image=images,
        grid=grid,
        captions=len(texts),
    )


def _shares(maps: TokenMaps | None) -> Float[Tensor, "batch length atoms"] | None:
    """Return the attention to the atoms in multiples of an even share, mean over heads."""
    if maps is None or maps.atoms is None:
        return None
    return (maps.atoms.float().mean(dim=1) * maps.atoms.shape[-1]).cpu()


def most_used(use: DictionaryUse, count: int) -> list[int]:
    """Return the atoms that both modalities use most, by the geometric mean of the two uses."""
    return np.argsort(-np.sqrt(use.by_words * use.by_patches), kind="stable")[:count].tolist()


def draw_atoms(
    use: DictionaryUse, split: EmbeddedSplit, path: Path, *, count: int, warning: str
) -> Path:
    """Write the page of the atoms used most.

    Args:
        use: The measured use.
        split: The split it was measured on.
        path: The image file to write.
        count: Number of atoms on the page.
        warning: Red text above all; may be empty.
    """
    atoms = most_used(use, count)
    largest = float(max(use.by_words.max(), use.by_patches.max()))
    lines = [_atom(atom, use, split, largest) for atom in atoms]
    total = len(use.by_words)
    correlation = float(np.corrcoef(use.by_words, use.by_patches)[0, 1]) if total > 1 else 1.0
    facts = (
        f"{total} atoms, measured on {use.captions} captions and {len(use.image)} images of "
        f"{split.name}. Half of the words' attention goes to {_half(use.by_words)} atoms, half of "
        f"the patches' to {_half(use.by_patches)}; correlation of the two uses {correlation:.2f}. "
        f"Numbers are multiples of an even share (1/{total} of a token's attention), mean over "
        "heads: of a word over all its occurrences; of each image for the patch with the most, "
        "which is framed and shown with its neighbours."
    )
    title = "Dictionary atoms used most by words and patches"
    with replacing(path) as file:
        save_page(file, title, [facts], lines, [warning])
    return path


def _atom(atom: int, use: DictionaryUse, split: EmbeddedSplit, largest: float) -> Image.Image:
    bars = [text_block(f"Atom {atom}", 250, bold=True)]
    for name, share, colour in (
        ("words", use.by_words[atom], MORE),
        ("patches", use.by_patches[atom], LESS),
    ):
        bars.append(text_block(f"{name}: {share:.1f} times", 250, size=SMALL_SIZE, colour=PALE))
        bars.append(bar_block(float(share) / largest, 220, 9, colour))
    ranked = sorted(use.words, key=lambda word: (-use.words[word][atom], word))[:_WORDS]
    shares = [float(use.words[word][atom]) for word in ranked]
    pieces = [
        Piece(f"{word}\N{NO-BREAK SPACE}{share:.1f}", fill=tint(share / max(shares[0], 1e-9)))
        for word, share in zip(ranked, shares, strict=True)
    ]
    words = flow_block(pieces, 470)
    images = np.argsort(-use.best[:, atom], kind="stable")[:_PATCHES].tolist()
    crops = [_crop(split, use, row, atom) for row in images]
    return beside([stack(bars, 3), words, beside(crops, 10)], 28)


def _crop(split: EmbeddedSplit, use: DictionaryUse, row: int, atom: int) -> Image.Image:
    """Return a framed patch with its neighbours, above its attention to the atom."""
    image = read_upright(split.records[use.image[row]].image_path)
    rows, columns = use.grid
    y, x = divmod(int(use.token[row, atom]), columns)
    high, wide = image.height / rows, image.width / columns
    around = min(3, rows, columns)
    top = min(max(y - around // 2, 0), rows - around)
    left = min(max(x - around // 2, 0), columns - around)
    box = (left * wide, top * high, (left + around) * wide, (top + around) * high)
    crop = image.resize((_CROP, _CROP), Image.Resampling.BICUBIC, box=box)
    step = _CROP / around
    corner = ((x - left) * step, (y - top) * step)
    draw = ImageDraw.Draw(crop)
    for colour, inset in (("#FFFFFF", 0), ("#000000", 2)):
        near = [place + inset for place in corner]
        draw.rectangle((*near, *(p + step - 1 - inset for p in corner)), outline=colour, width=2)
    label = text_block(f"{use.best[row, atom]:.1f}", _CROP, size=15, colour=PALE)
    return stack([framed(crop, "#CCCCCC"), label], 2)


def _words(text: str, places: list[TokenPlace]) -> dict[str, list[int]]:
    """Return the tokens of each word of a caption, of all its occurrences."""
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
    """Return how many atoms get half of all attention."""
    falling = np.cumsum(np.sort(shares)[::-1])
    return int(np.searchsorted(falling, falling[-1] / 2)) + 1
