"""Blocks: the tint stands where the weight is, and nothing is cut."""

import numpy as np
import pytest
from PIL import Image

from tireid.data.tokenizers import TokenPlace
from tireid.explanations.query_pages import Caption, caption_block
from tireid.figures.pages import (
    LESS,
    MORE,
    bar_block,
    beside,
    framed,
    image_row,
    map_block,
    scale_block,
    stack,
    text_block,
    tick,
)

LONG = "A woman in a coat, supercalifragilisticexpialidocious-coloured, walks her dog. " * 4


def places(text, *, special=True):
    """One token a word, a start and an end token around them."""
    found, end = [], 0
    for number, word in enumerate(text.split()):
        start = text.index(word, end)
        end = start + len(word)
        found.append(TokenPlace(start, end, number))
    around = [TokenPlace(0, 0, None)] if special else []
    return [*around, *found, *around]


def inked(block):
    return np.asarray(block).min(axis=2) < 200


def tinted(block):
    """Where a pixel is of some colour."""
    pixels = np.asarray(block).astype(int)
    return pixels.max(axis=2) - pixels.min(axis=2) > 20


@pytest.mark.parametrize("width", [90, 300, 741])
@pytest.mark.parametrize("size", [15, 29])
def test_no_text_touches_the_edges_it_was_wrapped_at(width, size):
    ink = inked(text_block(LONG, width, size=size))
    assert ink.any()
    assert not ink[:, -1].any()
    assert not ink[-1].any()


def test_wrapping_keeps_every_letter():
    narrow, wide = (inked(text_block(LONG, width)).sum() for width in (400, 20_000))
    assert abs(int(narrow) - int(wide)) < 0.02 * wide


def test_the_shade_is_under_the_word_and_nowhere_else():
    caption = Caption("red coat and blue shoes", places("red coat and blue shoes"))
    strengths = [0.0] * 7
    strengths[4] = 1.0  # "blue"
    block = caption_block(caption, strengths, 2000)
    columns = np.flatnonzero(tinted(block).any(axis=0))
    before = caption_block(
        Caption("red coat and ", places("red coat and ")), [0.0] * 4 + [0.0], 2000
    )
    ends = np.flatnonzero(inked(before).any(axis=0))
    assert len(columns) > 30
    assert columns[0] > 0.6 * ends[-1]  # what comes before is not shaded
    assert np.all(np.diff(columns) == 1)
    colour = np.asarray(block)[tinted(block)]
    assert np.median(colour, axis=0).tolist() == pytest.approx(
        [255 + 0.8 * (c - 255) for c in MORE], abs=1
    )


def test_stronger_is_darker_and_less_than_nothing_has_another_colour():
    caption = Caption("a b", [TokenPlace(0, 1, 0), TokenPlace(2, 3, 1)])
    faint, strong, negative = (
        np.asarray(caption_block(caption, [0.0, s], 400)).astype(int).sum()
        for s in (0.3, 1.0, -1.0)
    )
    assert strong < faint
    block = np.asarray(caption_block(caption, [0.0, -1.0], 400)).astype(int)
    colours = block[tinted(caption_block(caption, [0.0, -1.0], 400))]
    expected = [255 + 0.8 * (c - 255) for c in LESS]
    assert np.median(colours, axis=0).tolist() == pytest.approx(expected, abs=1)
    assert negative != strong


def test_a_long_caption_is_wrapped_and_its_cut_tail_is_there():
    kept = places(LONG)[:12]
    short = caption_block(Caption(LONG, kept), [0.5] * 12, 500)
    assert short.width == 500
    ink = inked(short)
    assert not ink[:, -1].any()
    assert ink[-40:].any()  # the tail, pale, is drawn to the end
    whole = caption_block(Caption(LONG, places(LONG)), [0.5] * len(places(LONG)), 500)
    assert abs(whole.height - short.height) <= 31


def test_pieces_of_a_word_stay_together():
    text = "umbrella " * 3 + "checkered"
    spans = [TokenPlace(27, 31, 3), TokenPlace(31, 34, 3), TokenPlace(34, 36, 3)]
    pieces = [*places("umbrella " * 3, special=False), *spans]
    whole = places(text, special=False)
    assert len(pieces) == 6
    for width in range(160, 520, 40):
        split = caption_block(Caption(text, pieces), [0.0] * 6, width)
        one = caption_block(Caption(text, whole), [0.0] * 4, width)
        assert split.size == one.size


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 1), (5, 3)])
def test_the_heat_is_over_the_place(row, column):
    image = Image.new("RGB", (40, 60), (90, 140, 60))
    strengths = np.zeros((6, 4))
    strengths[row, column] = 1.0
    block = np.asarray(map_block(image, strengths, (80, 240))).astype(int)
    assert block.shape == (240, 80, 3)
    heat = block.max(axis=2) - block.min(axis=2)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert y // 40 == row
    assert x // 20 == column
    far = map_block(image, np.zeros((6, 4)), (80, 240))
    assert not tinted(far).any()  # the colours of the image do not look like weights


def test_sizes_add_up():
    blocks = [Image.new("RGB", (30, 10)), Image.new("RGB", (20, 40))]
    assert stack(blocks, 5).size == (30, 55)
    assert beside(blocks, 5).size == (55, 40)
    assert np.asarray(bar_block(0.25, 100, 4)).sum() < np.asarray(bar_block(0.0, 100, 4)).sum()
    scale = np.asarray(scale_block("none", "9 times")).astype(int)
    middle = scale[scale.shape[0] // 2]
    assert (middle.max(axis=1) - middle.min(axis=1)).argmax() > scale.shape[1] // 2


def test_a_frame_surrounds_an_image():
    image = framed(Image.new("RGB", (10, 250), "blue"), "#009E73")
    assert image.size == (10 + 8, 250 + 8)
    assert image.getpixel((0, 0)) == (0x00, 0x9E, 0x73)
    assert image.getpixel((9, 100)) == (0, 0, 255)
    assert (tick(True), tick(False)) == ("\u2713", "\u2715")


def test_correct_wrong_and_described_images_have_frames_and_labels_of_their_own():
    image = Image.new("RGB", (60, 100), "blue")
    row = image_row([(image, "described", None), (image, "0.90", True), (image, "0.80", False)])
    assert row.width == 3 * 68 + 2 * 12
    corners = [row.getpixel((left, row.height - 108)) for left in (0, 80, 160)]
    assert corners[1:] == [(0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00)]
    labels = [inked(row.crop((left, 0, left + 68, row.height - 108))) for left in (0, 80, 160)]
    assert all(label.any() for label in labels)
    dashes = [row.getpixel((0, y)) for y in range(row.height - 108, row.height)]
    assert len(set(dashes)) == 2  # the frame and its gaps
