"""LGUR's ranking loss against loops written from its definition."""

import numpy as np
import pytest
import torch

from tireid.losses.draws import keyed_uniform
from tireid.losses.ranking import RankingLoss, Triplets, mine_semi_hard, ranking_loss


def reference(rows, columns, row_negatives, column_negatives, margin, official):
    """One anchor at a time, in NumPy; a negative of None means that the anchor does not count."""
    x = rows.reshape(len(rows), -1)
    y = columns.reshape(len(columns), -1)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    similarity = x @ y.T
    total = 0.0
    for i, j in enumerate(row_negatives):
        if j is not None:
            total += max(0.0, margin - similarity[i, i] + similarity[i, j])
    for i, j in enumerate(column_negatives):
        if j is not None:
            negative = similarity[i, j] if official else similarity[j, i]
            total += max(0.0, margin - similarity[i, i] + negative)
    return total


def as_triplets(negatives):
    return Triplets(
        torch.tensor([0 if j is None else j for j in negatives]),
        torch.tensor([j is not None for j in negatives]),
    )


@pytest.mark.parametrize("columns", ["official", "corrected"])
@pytest.mark.parametrize("margin", [0.2, 0.3])
def test_equals_loops_for_given_triplets(columns, margin):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    row_negatives, column_negatives = [1, None, 4, 0, 2], [3, 2, None, 1, 0]
    loss = ranking_loss(
        x,
        y,
        torch.arange(5),
        margin=margin,
        columns=columns,
        triplets=(as_triplets(row_negatives), as_triplets(column_negatives)),
    )
    expected = reference(
        x.numpy(), y.numpy(), row_negatives, column_negatives, margin, columns == "official"
    )
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    mean = ranking_loss(
        x,
        y,
        torch.arange(5),
        margin=margin,
        columns=columns,
        reduction="mean",
        triplets=(as_triplets(row_negatives), as_triplets(column_negatives)),
    )
    assert float(mean) == pytest.approx(expected / 5, rel=1e-12)


def test_mined_negatives_are_semi_hard_of_another_identity_and_uniform():
    similarity = torch.tensor(
        [
            # positive 0.5; candidates within (0.2, 0.5): columns 1 and 3; 2 is harder, 4 too easy
            [0.5, 0.4, 0.6, 0.3, 0.1],
            # columns 2 and 3 would do but share the identity of row 1 (pids below): only 4
            [0.9, 0.8, 0.7, 0.6, 0.55],
            [0.9, 0.8, 0.5, 0.4, 0.1],  # 3 shares the identity; the rest is harder or too easy
            [0.0, 0.0, 0.0, 0.9, 0.0],  # all too easy
            [0.0, 0.0, 0.0, 0.0, -0.9],  # all harder than the positive
        ]
    )
    pids = torch.tensor([7, 8, 8, 8, 9])
    counts = torch.zeros(5, 5)
    for seed in range(400):
        draws = torch.rand(5, 5, generator=torch.Generator().manual_seed(seed))
        found = mine_semi_hard(similarity, pids, draws=draws, margin=0.3)
        assert found.used.tolist() == [True, True, False, False, False]
        counts[torch.arange(5), found.negative] += 1
    assert counts[0, [1, 3]].sum() == 400
    assert 150 < counts[0, 1] < 250
    assert counts[1, 4] == 400


def test_edges_of_the_margin_are_outside():
    similarity = torch.tensor([[0.5, 0.5], [0.25, 0.5]])  # gap of margin, and of exactly 0
    found = mine_semi_hard(similarity, torch.tensor([0, 1]), draws=torch.rand(2, 2), margin=0.25)
    # nobody has a candidate: the last anchor takes the first column of another identity
    assert found.used.tolist() == [False, True]
    assert found.negative[1] == 0


def test_without_candidates_the_last_anchor_counts_once():
    x = torch.eye(3, dtype=torch.float64)
    loss = ranking_loss(x, x, torch.tensor([1, 2, 3]), margin=0.3)
    # positives at 1, negatives at 0: the single fallback triplet is satisfied in both halves
    assert float(loss) == 0.0
    loss = ranking_loss(x, -x, torch.tensor([1, 2, 3]), margin=0.3)
    # positives at -1, negatives at 0, all too hard: 0.3 + 1 + 0 for rows and for columns
    assert float(loss) == pytest.approx(2.6)


def test_one_identity_gives_zero_and_no_nan():
    x = torch.randn(4, 3, requires_grad=True)
    loss = ranking_loss(x, x.detach() * 2, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.isfinite(x.grad).all()


def test_same_draw_same_loss_and_other_draw_other_loss():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=generator)
    y = x + torch.randn(40, 4, generator=generator)
    pids = torch.arange(40)
    loss = RankingLoss(seed=3)
    values = [float(loss(x, y, pids, draw=draw)) for draw in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert float(RankingLoss(seed=4)(x, y, pids, draw=0)) != values[0]


def test_a_draw_is_that_of_a_generator_of_its_own_and_leaves_the_global_one():
    """Runs of earlier versions drew so; a resumed one continues them."""
    generator = torch.Generator().manual_seed(3 * 1_000_003 + 7)
    expected = [torch.rand(4, 5, generator=generator) for _ in range(2)]
    state = torch.get_rng_state()
    found = keyed_uniform(3, 7, number=2, rows=4, columns=5, device=torch.device("cpu"))
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(torch.get_rng_state(), state)


def test_gradcheck():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    triplets = (as_triplets([1, 2, 3, 4, 5, 0]), as_triplets([5, 0, 1, 2, 3, 4]))
    assert torch.autograd.gradcheck(
        lambda a, b: ranking_loss(a, b, torch.arange(6), triplets=triplets), (x, y)
    )


def test_autocast_keeps_full_precision():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(8, 16, generator=generator)
    y = torch.randn(8, 16, generator=generator)
    triplets = (as_triplets([1, 2, 3, 4, 5, 6, 7, 0]),) * 2
    plain = ranking_loss(x, y, torch.arange(8), triplets=triplets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = ranking_loss(x, y, torch.arange(8), triplets=triplets)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": "both"}, "columns: expected"),
        ({"reduction": "none"}, "reduction: expected"),
        ({"margin": 0.0}, "margin: expected"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RankingLoss(**arguments)
