"""How many processes a run has, and what is said of GPUs that it leaves unused."""

import warnings

import pytest

from tireid.training.devices import processes_to_start


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that makes as many GPUs visible."""

    def made(count):
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        kind = "tireid.training.devices.CUDAAccelerator.is_available"
        monkeypatch.setattr(kind, lambda: count > 0)

    return made


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["trainer=gpu"], {}, "1 of 4 visible GPUs in use: strategy=ddp uses all"),
        ([], {}, "1 of 4 visible GPUs in use"),
        (["trainer=gpu", "strategy=ddp", "strategy.devices=2"], {}, "2 of 4 visible GPUs in use"),
        (
            ["trainer=gpu", "strategy=torchrun"],
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"},
            "2 of 4 visible GPUs in use: start one process for each",
        ),
    ],
)
def test_gpus_that_are_not_used_are_said(compose_config, gpus, monkeypatch, words, variables, said):
    gpus(4)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tireid.training.devices.world_size", lambda: len(variables) // 2 or 1)
    with pytest.warns(UserWarning, match=said):
        processes_to_start(compose_config(*words))


@pytest.mark.parametrize(
    ("words", "count"),
    [(["trainer=cpu"], 4), (["trainer=gpu"], 1), (["strategy=ddp", "strategy.devices=4"], 4)],
)
def test_nothing_is_said_where_none_is_left(compose_config, gpus, words, count):
    gpus(count)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processes_to_start(compose_config(*words))
