"""Files of `sweeps/`: the command that an agent of W&B would run is one of `tireid train`."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from tireid.training.run import train

pytest.importorskip("wandb")
from wandb.sdk.launch.sweeps.utils import (
    create_sweep_command,
    create_sweep_command_args,
)

FILES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))


def command_of(file, value_of):
    """Return the words that an agent runs for one choice of values."""
    sweep = yaml.safe_load(file.read_text())
    values = {name: {"value": value_of(space)} for name, space in sweep["parameters"].items()}
    arguments = create_sweep_command_args({"args": values})
    words = []
    for word in create_sweep_command(sweep["command"]):
        name = word[2:-1] if isinstance(word, str) and word.startswith("${") else None
        words += arguments.get(name, [] if name == "env" else [word])
    return words


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("end", [0, -1])
def test_the_command_of_an_agent_is_a_training_of_these_values(file, end, compose_config):
    def value(space):
        return (space.get("values") or [space["min"], space["max"]])[end]

    sweep = yaml.safe_load(file.read_text())
    tireid, command, *overrides = command_of(file, value)
    assert (tireid, command) == (sweep["program"], "train")
    cfg = compose_config(*overrides)
    assert cfg.monitor == sweep["metric"]["name"]
    for name, space in sweep["parameters"].items():
        assert OmegaConf.select(cfg, name) == value(space), name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_trains_a_run_that_the_sweep_counts(
    file, small_config, tmp_path, monkeypatch, read_logged
):
    words = command_of(file, lambda space: (space.get("values") or [space["min"]])[0])[2:]
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    small = ["max_epochs=1", "batch_size=8", "dataset.read.num_train_ids=8"]
    train(small_config(tmp_path, *words, *small))
    logged = read_logged(tmp_path)
    assert logged.run.id == "r1"
    assert yaml.safe_load(file.read_text())["metric"]["name"] in logged.summary
