import copy

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from tireid.methods.muon import MuonAdamW, orthogonal


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(72, 5))


def optimizer_of(net, **settings):
    body, head = net[0].parameters(), net[2].parameters()
    groups = [
        {"params": list(body), "lr": 0.01, "name": "body"},
        {"params": list(head), "lr": 0.02, "name": "classifier"},
    ]
    return MuonAdamW(groups, weight_decay=0.1, **settings)


def closure_of(net, optimizer):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 5, 5, generator=generator)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), torch.arange(4))
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (17, 17)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = (u.mT @ orthogonal(matrix) @ v.mT).diagonal()
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert orthogonal(torch.zeros(3, 4)).eq(0).all()


def test_a_step_of_a_matrix_has_the_size_that_was_asked_for():
    net = network()
    optimizer = optimizer_of(net, rms=0.5)
    optimizer.param_groups[1]["weight_decay"] = 0.0
    before = net[0].weight.detach().clone()
    optimizer.step(closure_of(net, optimizer))
    step = (before - net[0].weight.detach()) / 0.01
    assert step.square().mean().sqrt() == pytest.approx(0.5, rel=0.2)


def test_all_but_matrices_and_classes_takes_the_steps_of_adamw():
    net, other = network(), network()
    optimizer = optimizer_of(net)
    reference = torch.optim.AdamW(
        [
            {"params": [other[0].bias], "lr": 0.01},
            {"params": list(other[2].parameters()), "lr": 0.02},
        ],
        weight_decay=0.1,
    )
    for _ in range(3):
        optimizer.step(closure_of(net, optimizer))
        other[0].weight.data = net[0].weight.data.clone()
        reference.zero_grad()
        # The gradients that the other had: both have equal weights before each step.
        for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
            theirs.grad = mine.grad.clone()
        reference.step()
        assert all(
            torch.equal(mine, theirs)
            for mine, theirs in zip(net.parameters(), other.parameters(), strict=True)
        )


def test_the_closure_sees_the_gradients_of_all_groups():
    net = network()
    optimizer = optimizer_of(net)
    closure = closure_of(net, optimizer)
    optimizer.step(closure)
    closure()  # of the new weights; nothing is left of the first gradient
    expected = net[0].weight.grad.clone()
    optimizer.step(closure)
    assert torch.equal(net[0].weight.grad, expected)


def test_training_continues_from_a_saved_state_to_the_last_bit():
    net = network()
    optimizer = optimizer_of(net)
    optimizer.step(closure_of(net, optimizer))
    again = network()
    again.load_state_dict(net.state_dict())
    restored = optimizer_of(again)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((net, optimizer), (again, restored)):
        its.step(closure_of(one, its))
    assert all(map(torch.equal, net.parameters(), again.parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rms": 0.0}, "rms: expected a number above 0"),
        ({"momentum": 1.0}, "momentum: expected"),
        ({"longest": 1.0}, "longest: expected a number above 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        optimizer_of(network(), **settings)


def test_a_copy_steps_alike():
    """A resumed run looks at what a copy keeps; of the optimiser itself a copy has no attribute."""
    net = network()
    optimizer = optimizer_of(net)
    closure_of(net, optimizer)()
    copy.copy(optimizer).step()
    assert optimizer.state[net[0].weight].keys() == {"step", "momentum_buffer"}


def test_a_matrix_that_is_longer_than_asked_for_takes_the_steps_of_adamw():
    tables, others = (torch.nn.ParameterList([torch.ones(9, 2), torch.ones(3, 2)]) for _ in "ab")
    groups = [{"params": list(tables), "lr": 0.1, "name": "head"}]
    optimizer = MuonAdamW(groups, longest=4.0, weight_decay=0.0)
    reference = torch.optim.AdamW(others, lr=0.1, weight_decay=0.0)
    for weights, its in ((tables, optimizer), (others, reference)):
        sum((w * torch.arange(len(w))[:, None]).sum() for w in weights).backward()
        its.step()
    assert torch.equal(tables[0], others[0])
    assert not torch.allclose(tables[1], others[1])


def test_the_quick_recipe_leaves_word_embeddings_to_adamw(compose_config):
    cfg = compose_config("recipe=quick")
    encoder = instantiate(cfg.text_encoder.module, _convert_="all")
    groups = [{"params": list(encoder.parameters()), "lr": 0.1, "name": "text_encoder"}]
    optimizer = instantiate(cfg.recipe.optimizer, _convert_="all")(groups)
    apart = next(group["params"] for group in optimizer.param_groups if not group["matrices"])
    assert [p is encoder.embedding.table.weight for p in apart] == [True]


@pytest.mark.parametrize(
    ("recipe", "epochs", "dropout", "rate"),
    [("quick", (2, 3), 0.0, 4e-3), ("scratch", (6, 6), 0.1, 2e-3)],
)
def test_the_quick_recipe_keeps_its_choices_to_itself(
    compose_config, recipe, epochs, dropout, rate
):
    configs = [compose_config(f"recipe={recipe}", f"model={model}") for model in ("lcr2s", "rde")]
    assert tuple(cfg.max_epochs for cfg in configs) == epochs
    assert configs[0].text_encoder.module.dropout == dropout
    assert configs[0].recipe.learning_rates.text_encoder == rate
