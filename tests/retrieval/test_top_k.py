import pytest
import torch

from tireid.retrieval import top_k


def test_order_and_scores():
    gallery = torch.tensor([[0.0, 2.0], [3.0, 4.0], [5.0, 0.0], [-1.0, 0.0]])
    scores, indices = top_k(torch.tensor([[10.0, 0.0], [0.0, 0.1]]), gallery, k=3)
    # Cosines to the first axis: 0, 0.6, 1, -1; to the second: 1, 0.8, 0, 0.
    assert indices.tolist() == [[2, 1, 0], [0, 1, 2]]
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.6, 0.0], [1.0, 0.8, 0.0]]))
    assert scores.dtype == torch.float32


def test_of_equal_images_the_lower_index_comes_first():
    gallery = torch.randn(100, 33, generator=torch.Generator().manual_seed(0))
    gallery[[90, 5, 41]] = gallery[17].clone()
    _, indices = top_k(gallery[[17]], gallery, k=4)
    assert indices.tolist() == [[5, 17, 41, 90]]
    _, indices = top_k(torch.ones(2, 33), torch.ones(50, 33), k=50)
    assert indices.tolist() == [list(range(50))] * 2


def test_block_size_does_not_matter_and_a_small_gallery_is_returned_whole():
    generator = torch.Generator().manual_seed(0)
    text, gallery = (torch.randn(rows, 16, generator=generator) for rows in (23, 9))
    scores, indices = top_k(text, gallery, k=20)
    assert indices.shape == (23, 9)
    assert (indices.sort(dim=1).values == torch.arange(9)).all()
    for block_size in (1, 4):
        blocked = top_k(text, gallery, 20, block_size)
        assert torch.equal(blocked[0], scores)
        assert torch.equal(blocked[1], indices)


def test_errors():
    with pytest.raises(ValueError, match="k of at least 1, got 0"):
        top_k(torch.ones(1, 2), torch.ones(3, 2), k=0)
    with pytest.raises(ValueError, match="1 of 3 image embeddings"):
        top_k(torch.ones(1, 2), torch.tensor([[1.0, 1.0], [1.0, torch.nan], [1.0, 1.0]]), k=1)
