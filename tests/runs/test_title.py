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


def titled(folder, *overrides, **settings):
    (folder / ".hydra").mkdir(exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    encoder = {"module": {"_target_": "tireid.encoders.vit.Vit"}}
    config = CONFIG | {"image_encoder": encoder, "text_encoder": encoder, "label": None}
    config |= {"model": {"_target_": "tireid.methods.lgur.Lgur"}, "paths": {"runs_dir": "/home/me"}}
    return run_title(config | settings, folder)


def test_one_override_changes_name_tags_and_row_and_a_seed_its_seed_only(tmp_path):
    plain = titled(tmp_path, "model=lgur", "seed=1", "trainer=cpu")
    changed = {"alignment": {"_target_": "tireid.losses.contrastive.InfoNceLoss"}}
    model = changed | {"_target_": "tireid.methods.lgur.Lgur"}
    other = titled(tmp_path, "model=lgur", "model/alignment=infonce", model=model)
    assert other.name == plain.name.replace("LGUR", "LGUR model/alignment=infonce")
    assert set(other.tags) - set(plain.tags) >= {"model/alignment=infonce"}
    assert other.config["settings"] != plain.config["settings"]
    again = titled(tmp_path, "model=lgur", "seed=2", "trainer=cpu", seed=2)
    assert again.name == plain.name.replace("seed1", "seed2")
    assert (again.tags, again.config["settings"]) == (plain.tags, plain.config["settings"])


def test_how_images_are_read_tells_no_run_apart(tmp_path):
    plain = titled(tmp_path, "model=lgur")
    how = ("cache=packed", "prefetch=4", "persistent_workers=false", "normalise_on=worker")
    other = titled(tmp_path, "model=lgur", *(f"dataset.{text}" for text in how))
    assert (other.name, other.tags) == (plain.name, plain.tags)


def test_no_path_of_the_machine_is_told(tmp_path):
    title = titled(tmp_path, "dataset.root=/data/x", "init_weights='/home/me/run7'", "+a.b=1")
    assert "init_weights=run7" in title.name
    assert "a.b=1" in title.name
    several = "dataset.read.sets={a: {root: /data/a}, b: {root: C:\\\\data}}"
    listed = titled(tmp_path, several, "vocabulary=hf://me/it", roots=["/data/a"], init="~/x")
    assert not {"roots", "init"} & listed.config.keys()
    assert listed.config["overrides"] == ["vocabulary=hf://me/it"]
    assert "dataset.read.sets={a: {root: a}, b: {root: data}}" in listed.tags
    assert "/home" not in str(title)
    assert "/data" not in str(title)
