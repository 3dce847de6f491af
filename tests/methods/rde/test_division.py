import math

import pytest
import torch

from tireid.methods.rde.division import (
    DivisionSettings,
    clean_probability,
    divide,
    fit_mixture,
    is_clean,
    two_clusters,
)


def losses(count=60, seed=0):
    """Two groups that overlap."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(2 * count // 3, generator=generator, dtype=torch.float64).abs() * 0.4
    high = 1.0 + torch.randn(count // 3, generator=generator, dtype=torch.float64) * 0.5
    return torch.cat([low, high])


def reference_mixture(values, start, max_iter, tolerance, added):
    """Expectation maximisation from its definition, in plain numbers."""
    tiny = 10 * torch.finfo(torch.float64).eps

    def maximise(weights):
        components = []
        for k in (0, 1):
            size = sum(w[k] for w in weights) + tiny
            mean = sum(w[k] * x for w, x in zip(weights, values, strict=True)) / size
            squares = sum(w[k] * (x - mean) ** 2 for w, x in zip(weights, values, strict=True))
            components.append((size, mean, squares / size + added))
        total = sum(size for size, _, _ in components)
        return [(size / total, mean, variance) for size, mean, variance in components]

    def densities(components):
        return [
            [
                share * math.exp(-((x - mean) ** 2) / variance / 2) / math.sqrt(math.tau * variance)
                for share, mean, variance in components
            ]
            for x in values
        ]

    components = maximise([(0.0, 1.0) if upper else (1.0, 0.0) for upper in start])
    before, steps = -math.inf, 0
    for _ in range(max_iter):
        found = densities(components)
        likelihood = sum(math.log(a + b) for a, b in found) / len(found)
        components = maximise([(a / (a + b), b / (a + b)) for a, b in found])
        steps += 1
        if abs(likelihood - before) < tolerance:
            break
        before = likelihood
    return components, [(a / (a + b), b / (a + b)) for a, b in densities(components)], steps


@pytest.mark.parametrize(
    ("max_iter", "tolerance", "added"), [(10, 1e-2, 5e-4), (100, 1e-4, 1e-6), (1, 1e-2, 5e-4)]
)
def test_the_mixture_is_that_of_the_definition(max_iter, tolerance, added):
    values = losses()
    values = (values - values.min()) / (values.max() - values.min())
    start = values > 0.3
    settings = DivisionSettings(max_iter=max_iter, tolerance=tolerance, regularisation=added)
    expected, posterior, steps = reference_mixture(
        values.tolist(), start.tolist(), max_iter, tolerance, added
    )
    assert steps == 1 if max_iter == 1 else 1 < steps < max_iter
    found = torch.stack(list(fit_mixture(values, start, settings)), dim=1)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    clean = clean_probability(7 * values + 3, settings, start)
    expected = torch.tensor([first for first, _ in posterior], dtype=torch.float64)
    torch.testing.assert_close(clean, expected)


def test_the_component_with_the_smaller_mean_is_clean_whatever_its_number():
    values = losses()
    start = two_clusters(values)
    settings = DivisionSettings(max_iter=50, tolerance=1e-9)
    one, other = (clean_probability(values, settings, s) for s in (start, ~start))
    torch.testing.assert_close(one, other)
    assert one[values.argmin()] > 0.5 > one[values.argmax()]


def test_the_two_clusters_are_the_best_of_all_divisions():
    values = torch.tensor([0.3, 0.1, 0.9, 0.1, 0.8, 0.35, 0.1], dtype=torch.float64)

    def spread(part):
        return float((part - part.mean()).square().sum())

    best = min(
        (values > cut for cut in values.unique()[:-1]),
        key=lambda upper: spread(values[upper]) + spread(values[~upper]),
    )
    assert torch.equal(two_clusters(values), best)


def test_at_least_a_hundredth_is_called_noisy_and_equal_losses_are_clean():
    sure = torch.linspace(0.6, 0.99, 250, dtype=torch.float64)
    assert is_clean(sure).sum() == 247  # all above that of position 2
    assert torch.equal(is_clean(sure - 0.3), sure > 0.8)
    same = torch.full((9,), 2.5)
    assert is_clean(clean_probability(same, DivisionSettings())).all()


def test_where_the_embeddings_differ_a_coin_of_the_epoch_decides():
    first, second = losses(900, 0), losses(900, 0).flip(0)
    settings = DivisionSettings()
    clean, other = (is_clean(clean_probability(x, settings)) for x in (first, second))
    differ = clean != other
    found = [divide((first, second), settings, seed=3, epoch=epoch) for epoch in (0, 1)]
    for kept in found:
        assert torch.equal(kept[~differ], clean[~differ])
        assert 0.4 < kept[differ].double().mean() < 0.6
    assert not torch.equal(*found)
    assert torch.equal(divide((first, second), settings, seed=3, epoch=1), found[1])


def test_nothing_is_drawn_from_the_global_generator():
    before = torch.get_rng_state()
    divide((losses(), losses(60, 1)), DivisionSettings(), seed=0, epoch=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"inputs": "raw"}, "division.inputs: expected augmented or clean, got 'raw'"),
        ({"warmup_epochs": -1}, "division.warmup_epochs: expected at least 0, got -1"),
        ({"max_iter": 0}, "division.max_iter: expected at least 1, got 0"),
        ({"tolerance": math.nan}, "division.tolerance: expected a number above 0, got nan"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        DivisionSettings(**setting)
