import torch

from tireid.metrics.ranks import count_at_least, drop_ranks, find_positives, rank_positives


def test_positives_of_any_integers():
    found = find_positives(torch.tensor([-3, 2**40, 8]), torch.tensor([2**40, -3, 5, 2**40, 2**40]))
    assert found.tolist() == [[1, -1, -1], [0, 3, 4], [-1, -1, -1]]


def test_counts_equal_comparisons():
    generator = torch.Generator().manual_seed(0)
    for positives in (1, 3, 40):
        values = torch.randint(0, 12, (9, 50), generator=generator).double()
        thresholds = torch.randint(-1, 13, (9, positives), generator=generator).double()
        thresholds = thresholds.sort(dim=1, descending=True).values
        expected = (values[:, None, :] >= thresholds[:, :, None]).sum(dim=2)
        assert torch.equal(count_at_least(values, thresholds), expected)


def test_ranks_name_the_images_that_hold_them():
    # Ranking: 4 (0.9), then 0 and 3 tied at 0.5 of which the negative 3 comes first, 2, 1.
    similarity = torch.tensor([[0.5, 0.1, 0.2, 0.5, 0.9]])
    ranks, positives = rank_positives(similarity, torch.tensor([7]), torch.tensor([7, 7, 1, 2, 7]))
    assert ranks.tolist() == [[1, 3, 5]]
    assert positives.tolist() == [[4, 0, 1]]


def test_tied_positives_take_consecutive_ranks_behind_tied_negatives():
    similarity = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.2]])
    ranks, positives = rank_positives(similarity, torch.tensor([1]), torch.tensor([1, 2, 1, 3, 1]))
    assert ranks.tolist() == [[3, 4, 5]]
    assert positives.tolist() == [[0, 2, 4]]


def test_the_similarity_is_left_alone():
    similarity = torch.rand(3, 5)
    before = similarity.clone()
    rank_positives(similarity, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2, 0, 1]))
    assert torch.equal(similarity, before)


def test_dropped_positives_let_the_others_move_up():
    ranks = torch.tensor([[1, 3, 4, 9], [2, 5, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]])
    dropped = torch.zeros(4, 4, dtype=torch.bool)
    dropped[0, 1] = dropped[1, 1] = dropped[2, 0] = True
    expected = [[1, 3, 8, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert drop_ranks(ranks, dropped).tolist() == expected
