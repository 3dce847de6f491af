"""Numbers and switches of a config are checked by the signatures of what takes them."""

import re
from pathlib import Path

import pytest

from tireid.files import conf_dir
from tireid.training.run import train
from tireid.training.signatures import check_signatures

CONF = Path(conf_dir())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.alignment_weight=high", "model.alignment_weight: expected a number, got 'high'"),
        ("model.alignment_weight=null", "model.alignment_weight: expected a number, got None"),
        ("dataset.pad=[4]", "dataset.pad: expected a whole number, got [4]"),
        ("dataset.pad=9999999999999999999", "dataset.pad: expected a whole number below 2**63"),
        ("model.alignment_weight=1000000000000000000000", "expected a number below 2**63"),
        ("dataset.pad=1.5", "dataset.pad: expected a whole number, got 1.5"),
        ("dataset.flip_probability=true", "dataset.flip_probability: expected a number"),
        ("dataset.cache_images=maybe", "dataset.cache_images: expected true or false"),
        ("image_encoder.module.embedding_size='8'", "embedding_size: expected a whole number"),
        ("recipe.optimizer.weight_decay=[0]", "optimizer.weight_decay: expected a number"),
        ("trainer.num_sanity_val_steps=a", "num_sanity_val_steps: expected a whole number"),
        ("strategy.num_nodes='1'", "strategy.num_nodes: expected a whole number, got '1'"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_anything_is_built(
    small_config, tmp_path, override, message
):
    with pytest.raises(ValueError, match=re.escape(message)):
        train(small_config(tmp_path, "model=lgur", override))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("group", ["model", "image_encoder", "text_encoder", "recipe", "strategy"])
def test_every_choice_passes(compose_config, monkeypatch, group):
    for name in ("SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    for file in (CONF / group).glob("*.yaml"):
        check_signatures(compose_config(f"{group}={file.stem}", "paths.output_dir=out"))


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=str)
def test_every_experiment_passes(compose_config, file):
    cfg = compose_config(f"experiment={file.stem}", "dataset=cuhk_pedes", "paths.output_dir=out")
    check_signatures(cfg)
