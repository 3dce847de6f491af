"""What a config needs of the hub is found, fetched, and named where it cannot be had."""

import shutil
import sys

import pytest

from tireid.cli.main import main
from tireid.inference.fetching import HubSource, fetch_missing, hub_sources, is_cached
from tireid.training.run import train

BERT, DEIT = "bert-base-uncased", "facebook/deit-small-distilled-patch16-224"


@pytest.fixture(autouse=True)
def _cache(hub, monkeypatch):
    def look_up(name, file, revision=None):
        cached = hub.cache / f"models--{name.replace('/', '--')}"
        place = cached / "snapshots" / (revision or "0123abc") / file
        return str(place) if place.exists() else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", look_up)


@pytest.fixture
def fetched(monkeypatch, capsys):
    """Return a function that runs `tireid fetch`: to its exit code, output and errors."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tireid", "fetch", *words])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
        said = capsys.readouterr()
        return code, " ".join(said.out.split()), " ".join(said.err.split())

    return run


def put(hub, name, *files):
    for file in files:
        path = hub.repositories / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')


def test_each_repository_is_named_once_with_all_that_asks_for_it(compose_config):
    deit, bert = sorted(hub_sources(compose_config("experiment=lgur")), reverse=True)
    assert deit == HubSource(DEIT, None, ("weights",), ("image_encoder.module.pretrained",))
    assert bert.name == BERT
    assert bert.kinds == ("weights", "tokenizer")
    assert "text_encoder.module.embedding.pretrained" in bert.settings
    assert hub_sources(compose_config("model=lcr2s")) == []


def test_local_folders_and_a_vocabulary_that_comes_along_are_not_fetched(compose_config, tmp_path):
    cfg = compose_config(
        *("experiment=lgur", "init_weights=hf://me/it@v2"),
        *(f"image_encoder.pretrained={tmp_path}", f"text_encoder.pretrained={tmp_path}"),
    )
    assert hub_sources(cfg) == [HubSource("me/it", "v2", ("export",), ("init_weights",))]


def test_a_dry_run_names_what_is_missing_and_fetch_gets_it(fetched, hub):
    put(
        hub,
        BERT,
        "config.json",
        "vocab.txt",
        "model.safetensors",
        "model.onnx",
        "pytorch_model.bin",
    )
    put(hub, DEIT, "config.json", "pytorch_model.bin", "README.md")
    code, out, _ = fetched("experiment=lgur", "--list")
    assert code == 1
    assert out.count("missing") == 2
    assert "HF_HOME" in out
    assert not hub.asked
    code, out, _ = fetched("experiment=lgur")
    assert (code, out.count("fetched")) == (0, 2)
    assert {name for name in hub.asked if name.endswith((".bin", ".onnx", ".md"))} == {
        "pytorch_model.bin"  # of the repository without safetensors
    }
    assert hub.asked.count("pytorch_model.bin") == 1
    assert fetched("experiment=lgur", "--list")[0] == 0
    assert fetched()[1].startswith("nothing to fetch")


def test_weights_in_several_files_are_there_with_all_of_them(hub):
    source = HubSource("me/large", None, ("weights",), ("x",))
    put(hub, "me/large", "config.json", "model.safetensors.index.json", "model-1.safetensors")
    hub.snapshot_download("me/large", allow_patterns=["*"])
    assert not is_cached(source)
    put(hub, "me/large", "model-2.safetensors")
    hub.snapshot_download("me/large", allow_patterns=["*"])
    assert is_cached(source)


def test_a_damaged_index_of_weights_is_one_message(fetched, hub):
    put(hub, BERT, "config.json", "vocab.txt", "model.safetensors.index.json")
    (hub.repositories / BERT / "model.safetensors.index.json").write_text('{"weight_map": [1]}')
    hub.snapshot_download(BERT, allow_patterns=["*"])
    code, _, err = fetched("experiment=lgur", "--list")
    assert code == 1
    assert "weight_map: expected" in err


def test_what_cannot_be_had_is_named_at_once(fetched, hub):
    hub.is_offline = True
    code, _, err = fetched("experiment=lgur")
    assert code == 1
    assert f"{DEIT}: no snapshot of" in err
    assert f"{BERT}: not tried" in err
    hub.is_offline = False
    put(hub, BERT, "README.md")
    shutil.rmtree(hub.cache, ignore_errors=True)
    assert (
        f"{BERT}: expected weights and tokenizer in it, got none" in fetched("experiment=lgur")[2]
    )
    code, _, err = fetched("experimnt=lgur")
    assert code == 1
    assert "did you mean experiment?" in err
    code, _, err = fetched("experiment=lgur", "image_encoder.pretrained=/nowhere/deit")
    assert "/nowhere/deit: expected a folder that is there, or a name of the hub" in err


def test_a_training_names_all_that_it_lacks_before_data_are_read(compose_config, hub, tmp_path):
    hub.is_offline = True
    root = tmp_path / "data"  # nothing is read there
    cfg = compose_config("experiment=lgur", "trainer=cpu", f"dataset.root={root}")
    cfg.paths.output_dir = str(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="tireid fetch") as caught:
        train(cfg)
    assert all(name in str(caught.value) for name in (BERT, DEIT, "HF_HOME"))
    assert not (tmp_path / "run").exists()


def test_a_training_gets_what_is_missing_first(compose_config, hub, capsys):
    put(hub, BERT, "config.json", "tokenizer.json", "model.safetensors")
    put(hub, DEIT, "config.json", "model.safetensors")
    cfg = compose_config("experiment=lgur")
    fetch_missing(cfg, "tireid fetch")
    assert f"downloading {DEIT}, {BERT} into" in " ".join(capsys.readouterr().out.split())
    fetch_missing(cfg, "tireid fetch")
    assert not capsys.readouterr().out
