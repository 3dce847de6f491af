"""A config is flattened and hashed in one way."""

import yaml

from tireid.runs.settings import difference, fingerprint, flat_settings, flatten, without_seeds

CONFIG = {
    "seed": 1,
    "label": "a",
    "paths": {"output_dir": "x"},
    "model": {"head": {"parts": 6}, "seed": 2, "empty": {}, "cache_dir": "y"},
    "dataset": {"size": [2, 3]},
}


def test_a_nested_config_is_flattened_with_any_separator():
    flat = flatten(CONFIG, "/")
    assert flat["model/head/parts"] == 6
    assert flat["model/empty"] == {}
    assert flat["dataset/size"] == [2, 3]
    assert flatten(flat) == flat


def test_paths_and_display_are_no_settings():
    assert flat_settings(CONFIG) == {
        "seed": 1,
        "model.head.parts": 6,
        "model.seed": 2,
        "dataset.size": [2, 3],
    }


def test_what_is_accepted_of_a_data_set_is_no_setting_of_what_is_learned():
    assert flat_settings({"dataset": {"read": {"repeats": "warn", "a": 1}}}) == {
        "dataset.read.a": 1
    }


def test_a_fingerprint_changes_with_settings_only():
    elsewhere = CONFIG | {"paths": {"output_dir": "z"}, "label": "b"}
    assert fingerprint(elsewhere) == fingerprint(CONFIG)
    assert fingerprint(CONFIG | {"batch_size": 8}) != fingerprint(CONFIG)
    other = CONFIG | {"seed": 2}
    assert fingerprint(other) != fingerprint(CONFIG)
    assert fingerprint(other, seeds=False) == fingerprint(CONFIG, seeds=False)
    assert without_seeds(flat_settings(CONFIG)) == {"model.head.parts": 6, "dataset.size": [2, 3]}


def test_fingerprints_in_older_checkpoints_and_tables_stay_valid():
    """Worked out by the version that wrote the first ones."""
    assert fingerprint(CONFIG) == "4f06eacadfbd66b9de8ca3f58585c037558ee79def3a02691dbff679c8b09f60"
    assert fingerprint(CONFIG, seeds=False)[:12] == "f41d512d5fd9"


def test_how_images_are_read_is_no_setting_and_changes_no_hash(tmp_path):
    usual = {"prefetch": 2, "persistent_workers": True, "normalise_on": "auto", "cache": None}
    other = {"prefetch": 8, "persistent_workers": False, "normalise_on": "cpu", "cache": "packed"}
    before, now = ({**CONFIG, "dataset": {"size": [2, 3]} | values} for values in (usual, other))
    assert fingerprint(now) == fingerprint(before)
    # Worked out by the version before this rule, and before there were these settings.
    assert fingerprint(before)[:12] == "2826e53c24be"
    assert fingerprint(CONFIG)[:12] == "4f06eacadfbd"
    for written in (before, CONFIG):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
        assert difference(tmp_path, now) == ""


def test_a_rate_that_earlier_recipes_ignored_makes_no_other_run(tmp_path):
    """It counts as what the recipe makes of it."""
    now = CONFIG | {
        "image_encoder": {"learning_rate": 0.002},
        "recipe": {"learning_rates": {"image_encoder": 0.002}},
    }
    then = now | {"image_encoder": {"learning_rate": 0.001}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(then))
    assert difference(tmp_path, now) == ""
    assert fingerprint(then, seeds=False) == fingerprint(now, seeds=False)
    assert fingerprint(then) != fingerprint(now)  # checkpoints carry the config as it was
    changed = now | {"recipe": {"learning_rates": {"image_encoder": 0.1}}}
    assert "recipe.learning_rates.image_encoder=0.002 instead of 0.1" in difference(
        tmp_path, changed
    )


def test_a_setting_that_earlier_versions_lacked_makes_no_other_run_where_it_is_off(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    off, on = (
        CONFIG | {"model": {**CONFIG["model"], "dual": {"label_smoothing": share}}}
        for share in (0.0, 0.1)
    )
    assert difference(tmp_path, off) == ""
    assert "model.dual.label_smoothing=0.0 instead of 0.1" in difference(tmp_path, on)
