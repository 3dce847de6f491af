"""`evaluate` gives a run's figures again."""

import json

import pytest

from tireid.training.evaluate import evaluate


def test_same_figures_again(lgur_run, compose_config):
    folder, metrics = lgur_run
    for split in ("test", "val"):
        found = evaluate(
            compose_config(f"run={folder}", f"split={split}", "accelerator=cpu", name="evaluate")
        )
        expected = {name: v for name, v in metrics.items() if name.startswith(f"{split}/")}
        assert found == expected


def test_with_mirrored_images_it_is_another_record_and_says_so(lgur_run, compose_config, capsys):
    run = [f"run={lgur_run[0]}", "split=val", "accelerator=cpu"]
    found = evaluate(compose_config(*run, "flip=true", name="evaluate"))
    assert "mean with mirrored images" in " ".join(capsys.readouterr().out.split())
    (file,) = lgur_run[0].glob("evaluation_val_*_flip.json")
    record = json.loads(file.read_text())
    assert record["flip"] is True
    assert record["metrics"] == found
    with pytest.raises(ValueError, match="flip: expected true or false, got 'both'"):
        evaluate(compose_config(*run, "flip=both", name="evaluate"))
