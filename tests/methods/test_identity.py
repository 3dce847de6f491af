"""Identity heads that score a share of the identities in each step."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.projection import CmpmCmpcLoss
from tireid.methods.baseline import Baseline
from tireid.methods.identity import SampledClasses, identity_terms, sample_classes

CLASSES, WIDTH, BATCH = 40, 6, 5


def make_head(share, seed=1):
    torch.manual_seed(0)
    classifier = nn.Linear(WIDTH, CLASSES)
    whole = {"weight": (classifier.weight, 0), "bias": (classifier.bias, 0)}
    return classifier, SampledClasses(whole, share=share, seed=seed)


def make_inputs(step, size=BATCH):
    generator = torch.Generator().manual_seed(100 + step)
    sides = tuple(torch.randn(size, WIDTH, generator=generator) for _ in range(2))
    return sides, torch.randint(CLASSES, (size,), generator=generator)


def train(classifier, sampled, optimizer, steps):
    for step in steps:
        sides, labels = make_inputs(step)
        terms = identity_terms(classifier, sampled, sides, labels, step=step, smoothing=0.1)
        optimizer.zero_grad()
        terms.backward()
        optimizer.step()


def test_a_share_of_one_trains_as_exact_does():
    exact, _ = make_head(1.0)
    exact.requires_grad_(True)
    train(exact, None, torch.optim.AdamW(exact.parameters(), lr=0.01), range(6))
    classifier, sampled = make_head(1.0)
    optimizer = torch.optim.AdamW(sampled.parameters(), lr=0.01)
    sampled.follow(optimizer)
    train(classifier, sampled, optimizer, range(6))
    torch.testing.assert_close(classifier.weight, exact.weight.detach())
    torch.testing.assert_close(classifier.bias, exact.bias.detach())


def test_each_class_keeps_its_weights_and_moments_between_its_steps():
    """Against Adam by row, from its equations; the number of steps is that of the run."""
    classifier, sampled = make_head(0.4)
    optimizer = torch.optim.Adam(sampled.parameters(), lr=0.01)
    sampled.follow(optimizer)
    weight = classifier.weight.detach().clone()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    times = torch.zeros(CLASSES)
    for step in range(8):
        train(classifier, sampled, optimizer, [step])
        index = sampled._index
        times[index] += 1
        gradient = sampled.rows["weight"].grad
        first[index] = 0.9 * first[index] + 0.1 * gradient
        second[index] = 0.999 * second[index] + 0.001 * gradient**2
        mean = first[index] / (1 - 0.9 ** (step + 1))
        spread = (second[index] / (1 - 0.999 ** (step + 1))).sqrt()
        weight[index] -= 0.01 * mean / (spread + 1e-8)
        torch.testing.assert_close(classifier.weight.detach(), weight)
    assert times.min() < times.max()
    state = optimizer.state[classifier.weight]
    torch.testing.assert_close(state["exp_avg"], first)


def test_the_classes_of_the_batch_are_there_and_the_others_stand_for_all():
    _, sampled = make_head(0.5)
    for step in range(20):
        labels = make_inputs(step)[1]
        found = sampled.draw(labels, step)
        assert torch.equal(sampled._index[found.labels], labels)
        assert sampled._index.unique().numel() == 20
        assert found.weights.sum() == pytest.approx(CLASSES)
        assert (found.weights[found.labels] == 1).all()


def test_the_sum_of_the_softmax_is_without_bias():
    scores = torch.randn(CLASSES, generator=torch.Generator().manual_seed(5)).exp()
    _, sampled = make_head(0.3)
    labels = torch.tensor([3, 7])
    sums = [
        (sampled.draw(labels, step).weights * scores[sampled._index]).sum() for step in range(300)
    ]
    spread = torch.stack(sums).std() / 300**0.5
    assert torch.stack(sums).mean() == pytest.approx(float(scores.sum()), abs=4 * float(spread))


def test_a_resumed_head_goes_on_to_the_bit():
    classifier, sampled = make_head(0.4)
    optimizer = torch.optim.AdamW(sampled.parameters(), lr=0.01)
    sampled.follow(optimizer)
    train(classifier, sampled, optimizer, range(3))
    saved = copy.deepcopy((classifier.state_dict(), sampled.state_dict(), optimizer.state_dict()))
    train(classifier, sampled, optimizer, range(3, 7))
    again, resumed = make_head(0.4)
    other = torch.optim.AdamW(resumed.parameters(), lr=0.01)
    resumed.follow(other)
    for part, state in zip((again, resumed, other), saved, strict=True):
        part.load_state_dict(state)
    train(again, resumed, other, range(3, 7))
    assert torch.equal(again.weight, classifier.weight)
    assert torch.equal(again.bias, classifier.bias)


def train_share(rank, ranks):
    classifier, sampled = make_head(0.5)
    optimizer = torch.optim.SGD(sampled.parameters(), lr=0.1, momentum=0.9)
    sampled.follow(optimizer)
    for step in range(3):
        sides, labels = make_inputs(step, size=8)
        own = slice(8 // ranks * rank, 8 // ranks * (rank + 1))
        sides = tuple(side[own] for side in sides)
        terms = identity_terms(classifier, sampled, sides, labels[own], step=step, smoothing=0.0)
        optimizer.zero_grad()
        terms.backward()
        if ranks > 1:  # as DDP
            for rows in sampled.parameters():
                dist.all_reduce(rows.grad)
                rows.grad /= ranks
        optimizer.step()
    return classifier.weight.detach().numpy()


@pytest.mark.ddp
def test_two_processes_train_what_one_does(on_two_ranks):
    expected = torch.as_tensor(train_share(0, 1))
    for found in on_two_ranks(train_share, 2):
        torch.testing.assert_close(torch.as_tensor(found), expected)


def test_a_method_trains_the_rows_and_leaves_them_out_of_exports(base_arguments, pair_batch):
    torch.manual_seed(0)
    settings = {"alignment": InfoNceLoss(), "embedding_dim": 9, "identity": "sampled"}
    model = Baseline(**base_arguments, **settings, identity_share=1.0)
    terms = model.training_terms(pair_batch, 0).terms
    terms["id"].backward()
    assert model.classifier.weight.grad is None
    assert model.sampled_classes.rows["weight"].grad.abs().sum() > 0
    prefixes = model.training_only
    left = [n for n in model.state_dict() if not n.startswith(prefixes)]
    assert left
    assert not [n for n in left if "class" in n]
    grouped = [p for group in model.parameter_groups().values() for p in group]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(model.parameters()))


def test_what_does_not_fit_is_refused():
    classifier, sampled = make_head(0.1)
    with pytest.raises(
        ValueError, match=r"model.identity_share: expected at least 0.125, .* got 4"
    ):
        sampled.draw(torch.arange(5), 0)
    sampled.follow(torch.optim.SGD(sampled.parameters(), lr=0.1))
    sampled.draw(torch.arange(4), 1)
    with pytest.raises(ValueError, match=r"accumulate_grad_batches: expected 1 .*identity=exact"):
        sampled.draw(torch.arange(4), 1)
    whole = {"weight": (classifier.weight, 0)}
    usual = {"share": 0.5, "seed": 1, "alignment": InfoNceLoss()}
    assert sample_classes("exact", whole, **usual) is None
    with pytest.raises(ValueError, match="identity: expected exact or sampled, got 'partial'"):
        sample_classes("partial", whole, **usual)
    with pytest.raises(ValueError, match="expected exact with CmpmCmpcLoss"):
        sample_classes("sampled", whole, **usual | {"alignment": CmpmCmpcLoss()})
    with pytest.raises(ValueError, match=r"identity_share: expected a share in \(0, 1\], got 0"):
        sample_classes("sampled", whole, **usual | {"share": 0.0})
