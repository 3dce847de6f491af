"""An export goes to the model hub and comes back, as data alone; a stand-in takes its place."""

import pytest
import torch
import yaml
from PIL import Image

import tireid
from tireid.inference.export import export
from tireid.inference.push import push
from tireid.runs.weights import find_saved
from tireid.search.index import Index
from tireid.search.indexing import IndexOptions, build_index
from tireid.training.evaluate import evaluate

CAPTIONS = ["a man with a red coat and a bag", "woman"]
ADDRESS = "hf://somebody/lgur"


@pytest.fixture(scope="module")
def exported(untrained_run, compose_config, tmp_path_factory):
    run, output = untrained_run("model=baseline"), tmp_path_factory.mktemp("exports") / "out"
    return export(compose_config(f"run={run}", f"output={output}", name="export"))


@pytest.fixture
def pushed(exported, hub):
    """Return the folder of an export that was pushed."""
    push(exported, "somebody/lgur", private=True)
    return exported


def test_what_is_pushed_is_named_private_and_loads_by_its_address(
    untrained_run, compose_config, hub, tmp_path, capsys
):
    words = [f"run={untrained_run('model=baseline')}", f"output={tmp_path / 'out'}"]
    pushed = export(compose_config(*words, "push=somebody/lgur", name="export"))
    said = " ".join(capsys.readouterr().out.split())
    assert hub.private == {"somebody/lgur": True}
    repository = hub.repositories / "somebody" / "lgur"
    files = [path for path in repository.rglob("*") if path.is_file()]
    assert len(files) == 6
    assert all(path.relative_to(repository).as_posix() in said for path in files)
    assert f'tireid.load("{ADDRESS}")' in said
    found = tireid.load(ADDRESS, "cpu").encode_text(CAPTIONS)
    assert torch.equal(found, tireid.load(pushed, "cpu").encode_text(CAPTIONS))


def test_no_pickle_is_downloaded_or_read(pushed, hub):
    repository = hub.repositories / "somebody" / "lgur"
    (repository / "checkpoints").mkdir()
    for name in ("pytorch_model.bin", "model.pkl", "checkpoints/last.ckpt", "load.py"):
        (repository / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    folder, weights = find_saved(ADDRESS)
    assert weights.name == "model.safetensors"
    assert set(hub.asked) == {
        *("model.safetensors", "config.yaml", "metrics.json"),
        *("tokenizer/tokenizer.json", "tokenizer/tireid_tokenizer.json"),
    }
    (repository / "model.safetensors").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"--push` wrote, got no model\.safetensors in it"):
        tireid.load(ADDRESS)


def test_a_link_in_the_cache_leads_to_its_own_repository_only(pushed, hub, tmp_path):
    folder, _ = find_saved(ADDRESS)
    elsewhere = tmp_path / "config.yaml"
    elsewhere.write_bytes((folder / "config.yaml").read_bytes())
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").symlink_to(elsewhere)
    hub.snapshot_download = None
    with pytest.raises(ValueError, match=r"config\.yaml: expected a file inside .*, got a link to"):
        tireid.load(folder, "cpu")


def test_an_address_stands_wherever_a_model_is_named(
    pushed, hub, compose_config, cache_dir, tmp_path, small_config
):
    Image.new("RGB", (20, 50), (200, 30, 30)).save(tmp_path / "1.png")
    options = IndexOptions(model=ADDRESS, device="cpu", workers=0)
    build_index([tmp_path / "1.png"], tmp_path / "gallery", options)
    with Index.open(tmp_path / "gallery", device="cpu") as index:
        assert len(index.search(CAPTIONS[0], k=1)) == 1
        assert index.settings.model.startswith("hf:/")
    words = [f"run={run}" for run in (ADDRESS, pushed)]
    data = ["dataset=synthetic", f"paths.cache_dir={cache_dir}", "accelerator=cpu"]
    data += ["dataset.read.num_train_ids=8", "dataset.read.num_val_ids=3"]
    data += ["dataset.read.num_test_ids=4", "dataset.read.images_per_id=2"]
    found, expected = (evaluate(compose_config(one, *data, name="evaluate")) for one in words)
    assert found == expected
    assert "test/R1" in found
    with pytest.raises(ValueError, match="dataset: expected the data set to evaluate hf://"):
        evaluate(compose_config(words[0], name="evaluate"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://nobody/nothing", r"hf://nobody/nothing: expected a model that can be downloaded"),
        ("hf://nobody", "expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_message(hub, address, message):
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        tireid.load(address)


def test_onnx_files_are_not_downloaded(hub):
    with pytest.raises(ValueError, match="runtime: expected torch for a model of the hub, hf://"):
        tireid.load(ADDRESS, runtime="onnx")


def test_a_revision_is_taken(pushed, hub):
    assert find_saved(f"{ADDRESS}@v1.0")[0].name == "v1.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("push=lgur", "push: expected OWNER/NAME, got 'lgur'"),
        ("private=maybe", "private: expected true or false, got 'maybe'"),
        ("token", "expected a token of the hub that may write, got none; run `hf auth login`"),
        ("public", "expected a private repository, got a public one; set private=false"),
    ],
)
def test_what_cannot_be_pushed_is_said(
    untrained_run, compose_config, hub, tmp_path, monkeypatch, change, message
):
    if change == "token":
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    hub.private |= {"somebody/lgur": False} if change == "public" else {}
    words = [f"run={untrained_run('model=baseline')}", f"output={tmp_path / 'out'}"]
    words += ["push=somebody/lgur", *([change] if "=" in change else [])]
    with pytest.raises(ValueError, match=message):
        export(compose_config(*words, name="export"))
    assert not hub.repositories.exists()
    assert (tmp_path / "out").exists() == (change == "public")


def test_the_card_begins_with_what_the_hub_reads(pushed, copied_run, compose_config, tmp_path):
    header = yaml.safe_load((pushed / "README.md").read_text().split("---\n")[1])
    assert header["license"] == "mit"
    assert header["datasets"] == ["synthetic"]
    assert {"tireid", "baseline"} < set(header["tags"])
    assert "model-index" not in header  # of a run that was not tested
    assert header["metrics"][0] == "R1"
    words = [f"run={copied_run}", f"output={tmp_path / 'tested'}", "license=cc-by-4.0"]
    tested = export(compose_config(*words, name="export"))
    header = yaml.safe_load((tested / "README.md").read_text().split("---\n")[1])
    assert header["license"] == "cc-by-4.0"
    (result,) = header["model-index"][0]["results"]
    assert result["metrics"][0]["name"] == "R@1, text to image"
