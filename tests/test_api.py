"""The functions of `tireid`, which do what its commands do."""

import inspect
import pydoc
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import tireid
from tireid import api

SMALL = {
    "trainer": "cpu",
    "logger": "csv",
    "max_epochs": 1,
    "batch_size": 8,
    "dataset.read.num_train_ids": 8,
    "dataset.read.num_val_ids": 3,
    "dataset.read.num_test_ids": 4,
    "dataset.read.images_per_id": 2,
    "dataset.image_size": [48, 16],
}


@pytest.fixture
def small(cache_dir):
    return SMALL | {"paths.cache_dir": str(cache_dir)}


@pytest.mark.slow
def test_a_run_is_trained_evaluated_compared_and_explained(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tireid.train("model/alignment=infonce", model="baseline", **small)
    assert run.folder.match("runs/synthetic/baseline/*")
    assert "model/alignment=infonce" in (run.folder / ".hydra" / "overrides.yaml").read_text()
    assert not HydraConfig.initialized()
    again = tireid.train("model/alignment=infonce", model="baseline", folder=run.folder, **small)
    assert again == run  # complete already
    found = tireid.evaluate(run.folder, split="val", accelerator="cpu")
    assert found["val/R1"] == run.metrics["val/R1"]
    (result,) = tireid.compare(run.folder, csv="table.csv")
    assert result.metrics["test/R1"] == run.metrics["test/R1"]
    assert (tmp_path / "table.csv").exists()
    assert tireid.explain(run.folder, queries=1, accelerator="cpu")
    assert tireid.load(tireid.export(run.folder, "out")).encode_text(["red"]).shape[0] == 1
    capsys.readouterr()


def test_a_data_set_is_read_whole(small):
    data = tireid.load_dataset(**small)
    assert {split: counts["ids"] for split, counts in data.describe().items()} == {
        "train": 8,
        "val": 3,
        "test": 4,
    }
    assert data.records("test")[0].captions


def test_the_data_of_a_run_come_with_its_vocabulary(untrained_run, small_data):
    run = untrained_run("model=baseline")
    data = tireid.load_dataset(run)
    assert data.fingerprints() == small_data.fingerprints()
    assert data.tokenizer.fingerprint() == small_data.tokenizer.fingerprint()
    with pytest.raises(ValueError, match="expected no other settings with a run"):
        tireid.load_dataset(run, batch_size=8)


def test_a_config_is_resolved_and_the_callers_hydra_is_left_as_it_was():
    before = GlobalHydra.instance().hydra
    assert api.train_config(model="baseline", seed=5).seed == 5
    assert GlobalHydra.instance().hydra is before
    with pytest.raises(Exception, match="lgru"):
        api.train_config(model="lgru")
    assert GlobalHydra.instance().hydra is before


def test_dir_and_help_show_what_there_is_and_importing_stays_light():
    code = "import sys, tireid; print('train' in dir(tireid), 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.split() == ["True", "False"]
    text = pydoc.render_doc(tireid, renderer=pydoc.plaintext)
    for name in set(tireid.__all__) - {"__version__"}:
        assert name in text
        assert name in dir(tireid)
        assert inspect.getdoc(getattr(tireid, name))
    assert all("Returns:" in inspect.getdoc(getattr(tireid, n)) for n in ("train", "evaluate"))
