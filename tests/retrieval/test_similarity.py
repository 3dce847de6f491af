import torch

from tireid.retrieval.similarity import similarity_blocks, unit_vectors


def random(rows: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def whole(text: torch.Tensor, image: torch.Tensor, block_size: int) -> torch.Tensor:
    return torch.cat([block for _, block in similarity_blocks(text, image, block_size)])


def test_is_the_cosine():
    text, image = random(9, 40, 0).double(), random(11, 40, 1).double()
    cosine = torch.nn.functional.cosine_similarity(text[:, None], image[None], dim=-1)
    torch.testing.assert_close(whole(text, image, 4), cosine, rtol=0, atol=3e-8)


def test_same_bits_for_every_block_size():
    text, image = random(70, 512, 0), random(201, 512, 1)
    expected = whole(text, image, 70)
    for block_size in (1, 3, 16, 69, 1000):
        assert torch.equal(whole(text, image, block_size), expected)


def test_same_bits_for_every_order_of_summation():
    text, image = random(20, 512, 0), random(30, 512, 1)
    order = torch.randperm(512, generator=torch.Generator().manual_seed(2))
    one_by_one = torch.zeros(20, 30, dtype=torch.float64)
    for i in order.tolist():
        one_by_one += unit_vectors(text)[:, i, None] * unit_vectors(image)[:, i]
    assert torch.equal(whole(text, image, 20), one_by_one)


def test_equal_images_are_equally_similar_wherever_they_stand():
    image = random(203, 300, 1)
    image[[7, 64, 130, 202]] = image[0].clone()
    similarity = whole(random(33, 300, 0), image, 8)
    assert (similarity[:, [7, 64, 130, 202]] == similarity[:, :1]).all()


def test_lengths_types_and_layouts_of_embeddings_do_not_matter():
    text, image = random(5, 64, 0).bfloat16(), random(6, 64, 1).bfloat16()
    expected = whole(text, image, 5)
    assert torch.equal(whole(text.double() * 1024, image.float() / 4096, 5), expected)
    assert torch.equal(whole(text, image.mT.contiguous().mT, 5), expected)


def test_zero_and_extreme_embeddings_stay_finite():
    image = torch.stack([torch.zeros(4), torch.full((4,), 3e38), torch.full((4,), 1e-30)])
    similarity = whole(torch.ones(1, 4), image, 1)
    assert similarity.isfinite().all()
    assert similarity[0, 0] == 0
    assert similarity[0, 1] == 1


def test_embeddings_are_left_alone():
    for dtype in (torch.float32, torch.float64):
        text = random(3, 4, 0).to(dtype).requires_grad_()
        before = text.detach().clone()
        assert not unit_vectors(text).requires_grad
        assert torch.equal(text, before)
