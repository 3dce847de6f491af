import pytest
import torch

from tireid.methods.schedules import multistep, warmup_cosine


def rates(make, steps, **arguments):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, **arguments)["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_official_stepping_drops_one_epoch_early():
    settings = {"total_steps": 0, "milestones": [20, 40, 50]}
    official = rates(multistep, 60, stepping="official", **settings)
    corrected = rates(multistep, 60, stepping="corrected", **settings)
    # 1-based epochs 1-19 full, 20-39 x0.1, 40-49 x0.01, 50-60 x0.001
    assert official == pytest.approx([1.0] * 19 + [0.1] * 20 + [0.01] * 10 + [0.001] * 11)
    assert corrected == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 10 + [0.001] * 10)


def test_multistep_can_warm_up():
    found = rates(multistep, 6, total_steps=0, milestones=[5], warmup_epochs=4, warmup_start=0.2)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.1])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="got 2 and 0"):
        multistep(optimizer, total_steps=0, milestones=[5], warmup_epochs=2, warmup_start=0.0)


def test_warmup_cosine_rises_and_falls():
    found = rates(warmup_cosine, 101, total_steps=100, warmup_fraction=0.1)
    assert found[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert found[10] == pytest.approx(1.0)
    assert found[55] == pytest.approx(0.5)
    assert found[100] == pytest.approx(0.0, abs=1e-12)


def test_wrong_stepping_and_fraction_are_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="stepping: expected"):
        multistep(optimizer, total_steps=1, milestones=[1], stepping="late")
    with pytest.raises(ValueError, match="warmup_fraction: expected"):
        warmup_cosine(optimizer, total_steps=1, warmup_fraction=1.0)
