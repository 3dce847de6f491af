"""Runs that belong together have one group."""

import pytest
import yaml

from tireid.runs.title import run_title

CONFIG = {
    "label": "LGUR",
    "seed": 1,
    "task": "train",
    "selection": "val",
    "dataset": {"name": "icfg_pedes"},
}


@pytest.mark.parametrize(
    ("chosen", "group"),
    [
        ({}, "icfg_pedes"),
        ({"experiment": None, "sweep": None}, "icfg_pedes"),
        ({"experiment": "lgur_clip"}, "lgur_clip_icfg_pedes"),
        ({"experiment": "lgur_clip", "sweep": "seeds"}, "seeds"),
    ],
)
def test_a_run_is_grouped_by_sweep_else_by_experiment_and_data_set(tmp_path, chosen, group):
    choices = {"image_encoder": "vit_tiny", "text_encoder": "bilstm_tiny"} | chosen
    (tmp_path / ".hydra").mkdir()
    recorded = {"hydra": {"runtime": {"choices": choices}}}
    (tmp_path / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(recorded))
    title = run_title(CONFIG, tmp_path)
    assert title.group == group
    assert title.name == "LGUR vit_tiny+bilstm_tiny icfg_pedes seed1"
