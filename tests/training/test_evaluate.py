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


@pytest.mark.parametrize("split", ["val", "test"])
def test_reranked_metrics_stand_beside_the_plain_ones(lgur_run, compose_config, capsys, split):
    run = [f"run={lgur_run[0]}", f"split={split}", "accelerator=cpu", "reranking.k1=3"]
    found = evaluate(compose_config(*run, "rerank=true", name="evaluate"))
    assert found == {n: v for n, v in lgur_run[1].items() if n.startswith(f"{split}/")}
    printed = " ".join(capsys.readouterr().out.split())
    assert "re-ranked by k-reciprocal neighbours (k1=3, k2=6, direct_weight=0.3)" in printed
    (file,) = lgur_run[0].glob(f"evaluation_{split}_*_rerank.json")
    record = json.loads(file.read_text())
    assert record["metrics"] == found
    reranked = record["reranked"].pop("metrics")
    assert record["reranked"] == {"k1": 3, "k2": 6, "direct_weight": 0.3}
    assert reranked.keys() == {name for name in found if "i2t" not in name}
    with pytest.raises(ValueError, match="rerank: expected true or false, got 20"):
        evaluate(compose_config(*run, "rerank=20", name="evaluate"))


def test_a_run_in_float16_is_evaluated_in_float32_where_there_is_no_gpu(
    untrained_run, compose_config, capsys
):
    folder = untrained_run("model=baseline", "trainer.precision=16-mixed")
    run = [f"run={folder}", "split=val", "accelerator=cpu"]
    evaluate(compose_config(*run, name="evaluate"))
    assert "16-mixed needs a GPU: evaluated in float32" in capsys.readouterr().out
