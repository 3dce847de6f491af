"""Run folders that version 0.1.0 wrote before the package was rearranged (commit ac4ba88)."""

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tireid.inference.build import build_encoders, build_model
from tireid.inference.saved_config import evaluation_config, inference_config
from tireid.runs.settings import difference, kept_settings

EARLIER = Path(__file__).parent / "earlier"
OVERRIDES = [
    "max_epochs=2",
    "batch_size=16",
    "trainer=cpu",
    "dataset.read.num_train_ids=60",
    "dataset.read.num_val_ids=12",
    "dataset.read.num_test_ids=20",
]


@pytest.mark.parametrize("method", ["baseline", "lgur", "lcr2s"])
def test_their_configs_build_models_with_the_weights_that_they_hold(method):
    cfg = evaluation_config(EARLIER / method)
    model = build_model(cfg, build_encoders(cfg), num_train_pids=60)
    written = json.loads((EARLIER / method / "weights.json").read_text())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == written
    assert set(inference_config(EARLIER / method)) == {
        *("model", "image_encoder", "text_encoder", "dataset", "trainer", "tf32")
    }


@pytest.mark.parametrize("method", ["baseline", "lgur"])
def test_an_interrupted_one_can_be_continued_with_its_recipe(method, compose_config, tmp_path):
    folder = shutil.copytree(EARLIER / method, tmp_path / "run")
    recipe = "recipe=scratch"  # which the synthetic set brought
    cfg = compose_config(f"model={method}", recipe, *OVERRIDES, f"paths.output_dir={folder}")
    assert difference(folder, OmegaConf.to_container(cfg, resolve=True)) == ""
    assert cfg.dataset.read.version == 2
    assert kept_settings(folder) == {"dataset.read.version": 1}
