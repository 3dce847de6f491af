"""`evaluate` gives a run's figures again."""

import json
import re

import pytest
from PIL import Image

from tireid.cli.hydra_app import as_overrides
from tireid.training.evaluate import evaluate


@pytest.fixture
def own_data(tmp_path):
    """Return a folder of a few images with a table."""
    rows = ["image,caption,person,split"]
    for person in range(6):
        for view in "ab":
            Image.new("RGB", (12, 36), (40 * person, 90, 10)).save(tmp_path / f"{person}{view}.png")
            split = "train" if person < 2 else "val" if person < 4 else "test"
            rows.append(f"{person}{view}.png,a person in coat {person},p{person},{split}")
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    return tmp_path


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


@pytest.mark.parametrize(
    ("setting", "beside"),
    [("ensemble_weights=[1,2]", "ensemble=[RUN,...]"), ("reranking.k1=3", "rerank=true")],
)
def test_a_setting_that_would_do_nothing_is_refused(compose_config, setting, beside):
    name = setting.partition("=")[0].partition(".")[0]
    with pytest.raises(ValueError, match=re.escape(f"{name}: does nothing without {beside}, got")):
        evaluate(compose_config("run=any", setting, name="evaluate"))


def test_an_ensemble_ranks_by_mean_similarities_and_needs_one_split(
    lgur_run, untrained_run, compose_config, capsys
):
    def found(run, others, *settings):
        words = [f"run={run}", f"ensemble=[{','.join(map(str, others))}]", "split=val", *settings]
        return evaluate(compose_config(*words, "accelerator=cpu", name="evaluate"))

    run, other = lgur_run[0], untrained_run("model=baseline")
    alone = {name: v for name, v in lgur_run[1].items() if name.startswith("val/")}
    assert found(run, [run]) == pytest.approx(alone, rel=1e-6)
    printed = " ".join(capsys.readouterr().out.split())
    assert "val split, percent, mean similarity of 2 runs" in printed
    mixed = found(run, [other], "ensemble_weights=[1,1e9]", "rerank=true", "reranking.k1=3")
    assert mixed == pytest.approx(found(other, []), rel=1e-6)
    printed = " ".join(capsys.readouterr().out.split())
    assert "weights [1, 1000000000.0]" in printed
    assert printed.count("re-ranked by k-reciprocal neighbours") == 3
    fewer = untrained_run("model=baseline", "dataset.read.num_val_ids=2")
    with pytest.raises(
        ValueError, match=r"ensemble: expected runs with one val split, got another"
    ):
        found(run, [fewer])
    with pytest.raises(ValueError, match=r"ensemble: expected a list of runs, got 'other'"):
        evaluate(compose_config(f"run={run}", "ensemble=other", name="evaluate"))


def test_on_several_data_sets_each_has_a_record_and_all_a_table(
    untrained_run, own_data, small_config, compose_config, capsys
):
    run = untrained_run()
    words = [f"run={run}", "dataset=[custom,rstpreid]", f"dataset.root={own_data}"]
    words += ["datasets.rstpreid.read._target_=tireid.data.custom.read_custom"]
    words += ["~datasets.rstpreid.read.exclude_ids", "datasets.rstpreid.counts=null"]
    words += ["accelerator=cpu", "datasets.rstpreid.num_workers=0", "datasets.custom.num_workers=0"]
    found = evaluate(compose_config(*as_overrides("evaluate", words), name="evaluate"))
    assert found["custom/test/R1"] == found["rstpreid/test/R1"]
    records = [json.loads(file.read_text()) for file in sorted(run.glob("evaluation_*.json"))]
    assert [(one["dataset"], one["trained_on"]) for one in records] == [
        ("custom", "synthetic"),
        ("rstpreid", "synthetic"),
    ]
    table = capsys.readouterr().out.rpartition("data set")[2]
    assert "custom" in table
    assert "rstpreid" in table


def test_a_run_in_float16_is_evaluated_in_float32_where_there_is_no_gpu(
    untrained_run, compose_config, capsys
):
    folder = untrained_run("model=baseline", "trainer.precision=16-mixed")
    run = [f"run={folder}", "split=val", "accelerator=cpu"]
    evaluate(compose_config(*run, name="evaluate"))
    assert "16-mixed needs a GPU: evaluated in float32" in capsys.readouterr().out
