"""From weights to strengths: grids, even shares, and the atoms of a made-up dictionary."""

import numpy as np
import pytest
import torch
from PIL import Image

from tireid.data.records import Record
from tireid.data.tokenizers import CaptionTokenizer, TokenPlace
from tireid.explanations.atom_pages import dictionary_use, draw_atoms, most_used
from tireid.explanations.embedded_split import EmbeddedSplit, evenly
from tireid.explanations.token_weights import part_shares, query_page, token_grid
from tireid.methods.base import RetrievalModule
from tireid.structures import TokenMaps


@pytest.mark.parametrize(
    ("length", "size", "grid"),
    [
        (48, (96, 32), (12, 4)),
        (192, (384, 128), (24, 8)),
        (48, (384, 128), (12, 4)),
        (65, (100, 40), (13, 5)),
        (20, (40, 32), (5, 4)),
        (7, (224, 32), (7, 1)),
        (1, (10, 10), (1, 1)),
    ],
)
def test_the_grid_is_the_one_with_the_squarest_places(length, size, grid):
    assert token_grid(length, size) == grid


def test_shares_are_means_over_layers_and_heads_in_even_shares():
    valid = torch.tensor([[True, True, True, True], [True, True, False, False]])
    parts = torch.zeros(2, 1, 2, 1, 4)
    parts[0, 0, 0, 0, 1] = 1.0  # one head looks at token 1 alone,
    parts[0, 0, 1, 0] = 0.25  # the other at all alike
    parts[1, :, :, 0, :2] = 0.5
    shares = part_shares(TokenMaps(valid, parts))
    assert shares[0, 0].tolist() == [0.5, 2.5, 0.5, 0.5]
    assert shares[1, 0].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_items_are_spread_over_the_split():
    assert evenly(3, 9).tolist() == [0, 4, 8]
    assert evenly(100, 4).tolist() == [0, 1, 2, 3]


class Words(CaptionTokenizer):
    """Ids are positions in a list of words."""

    pad_id = 0
    known = ("", "red", "coat", "blue")

    def __call__(self, captions):
        return [[self.known.index(word) for word in caption.split()] for caption in captions]

    def places(self, caption):
        found = []
        for number, word in enumerate(caption.split()):
            start = caption.index(word)
            found.append(TokenPlace(start, start + len(word), number))
        return found


class Known(RetrievalModule):
    """The word of id k pays atom k; place k of an image pays atom 5 if it is white, else 0."""

    def explain_images(self, images):
        white = images.mean(1).unfold(1, 8, 8).unfold(2, 8, 8).mean((-1, -2)).flatten(1) > 0.5
        atoms = torch.zeros(len(images), 2, white.shape[1], 6)
        atoms[..., 5] = white[:, None].float()
        atoms[..., 0] = 1 - atoms[..., 5]
        parts = white.float() / white.sum(1, keepdim=True).clamp(min=1)
        return TokenMaps(torch.ones_like(white), parts[:, None, None, None], atoms=atoms)

    def explain_texts(self, token_ids, valid, words=None):
        atoms = torch.nn.functional.one_hot(token_ids, 6)[:, None].float() * valid[:, None, :, None]
        parts = (valid / valid.sum(1, keepdim=True))[:, None, None, None]
        return TokenMaps(valid, parts, atoms=atoms)


@pytest.fixture
def split(tmp_path):
    """Two people, two black images each with one white place, another in each."""
    records = []
    for number in range(4):
        pixels = np.zeros((24, 16, 3), dtype=np.uint8)
        row, column = divmod(number, 2)
        pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        captions = (("red coat", "blue coat"),) * 2 + (("red",),) * 2
        records.append(Record(path, number // 2, captions[number], number))

    def load(path):
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(10, 5, generator=generator), dim=1)
    return EmbeddedSplit(
        name="test",
        records=records,
        texts=unit[:6],
        images=unit[6:],
        image_of=[0, 0, 1, 1, 2, 3],
        tokenizer=Words(9),
        load_image=load,
    )


def test_who_uses_an_atom(split):
    use = dictionary_use(Known(), split, items=10)
    assert use.grid == (3, 2)
    assert use.captions == 6
    # Of 10 words 4 are "red", 4 "coat", 2 "blue"; an even share is 1/6.
    assert use.by_words.tolist() == pytest.approx([0, 2.4, 2.4, 1.2, 0, 0])
    assert use.by_patches.tolist() == pytest.approx([5, 0, 0, 0, 0, 1])
    assert set(use.words) == {"red", "coat"}  # "blue" is there too rarely
    assert use.words["red"].tolist() == [0, 6, 0, 0, 0, 0]
    assert use.best[:, 5].tolist() == [6.0] * 4
    assert use.token[:, 5].tolist() == [0, 1, 2, 3]


def test_the_page_shows_atoms_that_both_use(split, tmp_path):
    use = dictionary_use(Known(), split, items=10)
    both = use._replace(by_words=use.by_words + 0.1 * np.eye(6)[5])
    assert most_used(both, 1) == [5]
    path = draw_atoms(both, split, tmp_path / "atoms.png", count=4, warning="")
    with Image.open(path) as page:
        assert page.width > 1000
        assert (np.asarray(page.convert("L")) < 128).any()


def test_a_page_knows_ranks_and_where_the_weight_is(split):
    page = query_page(Known(), split, 4, images=3)  # of image 2, of person 1
    scores = split.images @ split.texts[4]
    order = scores.argsort(descending=True).tolist()
    assert page.images[0].label == f"rank {order.index(2) + 1}"
    assert [p.path.stem for p in page.images] == ["2", *(str(i) for i in order[:3])]
    assert [p.correct for p in page.images] == [None, *(i >= 2 for i in order[:3])]
    first = min(order.index(2), order.index(3)) + 1
    assert page.title == f"Caption 4 of test: first correct image at rank {first}"
    (row,) = page.weights.rows
    assert row.title == "Prototype 1"
    assert row.words == [0.25]  # an even share is a quarter of the tint
    assert np.argwhere(row.maps[0] > 0).tolist() == [[1, 0]]  # image 2 is white there


def test_a_method_without_weights_gets_no_page(split):
    assert query_page(RetrievalModule(), split, 0, images=2) is None
    assert dictionary_use(RetrievalModule(), split, items=3) is None
