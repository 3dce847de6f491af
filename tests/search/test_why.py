"""Words and places weigh what a score loses without them."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tireid.inference.retriever import Retriever
from tireid.search.page.reasons import shown_reasons
from tireid.search.why import Reasons, find_reasons, without_each_word


class RedBelow(Retriever):
    """Embeds the red and the blue of the lower left quarter of an image, and how often it did."""

    def __init__(self, seconds=0.0):
        self.embedded = 0
        self.seconds = seconds

    def read_pixels(self, image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def encode_pixels(self, pixels):
        time.sleep(self.seconds)
        self.embedded += len(pixels)
        _, _, height, width = pixels.shape
        means = pixels[:, :, height // 2 :, : width // 2].float().mean(dim=(2, 3))
        return F.normalize(means[:, ::2], dim=1)


@pytest.fixture
def image():
    """Return an image that is blue, with red in a place of its lower left quarter."""
    drawn = Image.new("RGB", (16, 32), "blue")
    drawn.paste("red", (4, 24, 8, 28))
    return drawn


RED = torch.tensor([1.0, 0.0])


def test_the_place_whose_cover_costs_the_score_most_is_the_one_that_shows_it(image):
    reasons = find_reasons(RedBelow(), image, RED, torch.empty(0, 2))
    assert reasons.places.shape == (8, 4)
    assert divmod(int(reasons.places.argmax()), 4) == (6, 1)
    assert reasons.places[:4].abs().max() == 0  # the upper half does not count
    assert reasons.score == pytest.approx(1 / (1 + 31**2 / 1) ** 0.5, abs=0.2)


def test_words_weigh_what_the_score_loses_without_them(image):
    found = find_reasons(RedBelow(), image, RED, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    blue = (1 - found.score**2) ** 0.5
    assert found.words == pytest.approx([found.score - blue, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "shape"), [(0.05 * 33, (8, 4)), (0.05 * 12, (4, 2)), (0.1, None)]
)
def test_the_grid_is_as_fine_as_the_time_allows(image, monkeypatch, seconds, shape):
    clock = iter([0.0, 0.05])
    monkeypatch.setattr("tireid.search.why.time.perf_counter", lambda: next(clock))
    retriever = RedBelow()
    places = find_reasons(retriever, image, RED, torch.empty(0, 2), seconds=seconds).places
    assert (None if places is None else tuple(places.shape)) == shape
    assert retriever.embedded == 1 + (0 if shape is None else shape[0] * shape[1])


def test_a_sentence_is_shortened_by_each_of_its_words():
    words, shortened = without_each_word("a red  coat")
    assert words == ["a", "red", "coat"]
    assert shortened == ["red coat", "a coat", "a red"]
    assert without_each_word("coat") == ([], [])
    words, shortened = without_each_word("word " * 1000)
    assert len(words) == len(shortened) == 64


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([[0.0] * 2] * 3, "No place of the image carries the score"),
        (
            [[0.1, 0.0], [0.0, 0.3], [-0.5, 0.0]],
            "25 % from the top third, 75 % from the middle third and 0 % from the bottom third of "
            "the image; most from row 2 of 3, column 2 of 2",
        ),
    ],
)
def test_the_map_is_told_in_words(places, text):
    seen = torch.zeros(3, 12, 8, dtype=torch.uint8)
    shown = shown_reasons([], Reasons(0.5, [], seen, torch.tensor(places)))
    assert text in shown["places"]
    assert shown["map"].startswith("data:image/jpeg;base64,")


def test_without_a_map_the_page_says_why():
    seen = torch.zeros(3, 12, 8, dtype=torch.uint8)
    shown = shown_reasons(["red"], Reasons(0.5, [0.1], seen, None))
    assert shown["map"] == ""
    assert "too slow" in shown["places"]
    assert shown["words"] == [{"word": "red", "weight": 0.1}]
