import torch

from tireid.data.datasets import pad_captions


def test_padding_is_known_from_lengths_not_from_ids():
    padded, valid = pad_captions([[2, 0, 3], [2, 3], [2, 0, 0, 0]], pad_id=0)
    assert padded.tolist() == [[2, 0, 3, 0], [2, 3, 0, 0], [2, 0, 0, 0]]
    assert valid.tolist() == [[True] * 3 + [False], [True] * 2 + [False] * 2, [True] * 4]
    assert valid.dtype == torch.bool


def test_padding_id_is_the_tokenizers():
    padded, _ = pad_captions([[5, 9], [5]], pad_id=9)
    assert padded.tolist() == [[5, 9], [5, 9]]
