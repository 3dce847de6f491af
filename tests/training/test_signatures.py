"""Numbers, switches and choices in a config are checked by signatures; test_conf.py has all."""

import re

import pytest

from tireid.training.run import train


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
        ("image_encoder.module.pool=mean", "module.pool: expected max or avg, got 'mean'"),
        ("image_encoder.module.last_stride=3", "last_stride: expected 1 or 2, got 3"),
        ("trainer.deterministic=maybe", "expected warn or true or false or null, got 'maybe'"),
        ("strategy.num_nodes='1'", "strategy.num_nodes: expected a whole number, got '1'"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_anything_is_built(
    small_config, tmp_path, override, message
):
    with pytest.raises(ValueError, match=re.escape(message)):
        train(small_config(tmp_path, "model=lgur", override))
    assert not list(tmp_path.iterdir())
