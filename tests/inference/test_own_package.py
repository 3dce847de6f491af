"""A package of one's own, with a method, a loss, an encoder and a reader: used with trust only."""

import shutil
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

import tireid
from tireid.cli.main import main
from tireid.cli.new import KINDS, new
from tireid.files import conf_dir
from tireid.inference.saved_config import inference_config
from tireid.inference.trust import GROUP, remember, trusted
from tireid.training.run import train

PARTS = {"method": "pooling", "loss": "hinge", "encoder": "blind", "dataset": "shelf"}
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (30, 40, 200)}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Remember trust in a folder of the test's own, and forget what it has imported."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    before = set(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before:
        if name.partition(".")[0] in ("mine", "theirs"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """Return the run folder of a training with the parts of a package outside the repository."""
    place = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(place)
        patch.setenv("XDG_CONFIG_HOME", str(place / "home"))
        for kind, name in PARTS.items():
            new(kind, name, "mine")
        write_people(place / "people")
        remember(["mine"])
        chosen = ["model=pooling", "model/alignment=hinge", "image_encoder=blind", "dataset=shelf"]
        small = "text_encoder=bilstm_tiny recipe=scratch trainer=cpu logger=csv max_epochs=1"
        sizes = "batch_size=4 dataset.image_size=[48,16] dataset.pad=2 dataset.num_workers=0"
        folders = [f"dataset.root={place / 'people'}", f"paths.output_dir={place / 'run'}"]
        folders.append(f"paths.cache_dir={place / 'cache'}")
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            cfg = compose("train", [*chosen, *small.split(), *sizes.split(), *folders])
        train(cfg)
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]
    return place / "run"


@pytest.fixture
def copied(own_run, home, monkeypatch):
    """Return a copy of that run, beside its package without the loss; nothing is trusted yet."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    shutil.copytree(own_run.parent / "mine", home / "mine", ignore=lambda *_: ["hinge.py"])
    shutil.copytree(own_run.parent / "people", home / "people")
    return shutil.copytree(own_run, home / "run")


def write_people(root):
    number = 0
    for split, people in (("train", 3), ("val", 2), ("test", 2)):
        for _ in range(people):
            number += 1
            folder = root / split / str(number)
            folder.mkdir(parents=True)
            for name, colour in list(COLOURS.items())[:2]:
                Image.new("RGB", (16, 48), colour).save(folder / f"{name}.jpg")
                (folder / f"{name}.txt").write_text(f"person {number} in {name}\n")


@pytest.fixture
def typed(monkeypatch, capsys):
    """Return a function that runs `tireid` in this process, and gives its code and all it says."""
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):  # the command sets them
        monkeypatch.setenv(name, "1")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tireid", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def imported():
    return {name.partition(".")[0] for name in sys.modules} & {"mine", "theirs"}


@pytest.mark.slow
def test_all_commands_work_once_the_package_is_trusted_and_refuse_before(copied, home, typed):
    images, gallery = copied.parent / "people" / "test", home / "gallery"
    quiet = ("--workers", 0, "--device", "cpu")
    index = ("index", images, "--model", copied, "--out", gallery, *quiet)
    commands = {
        "evaluate": ("evaluate", f"run={copied}", "accelerator=cpu"),
        "explain": ("explain", f"run={copied}", "accelerator=cpu", "queries=1"),
        "export": ("export", f"run={copied}", f"output={home / 'exported'}"),
        "index": index,
    }
    for name, words in commands.items():
        code, said = typed(*words)
        assert code, name
        assert "model._target_" in said
        assert "tireid COMMAND --trust mine" in said
    assert not imported()

    evaluate, *others = commands.values()
    code, said = typed(evaluate[0], "--trust", "mine", *evaluate[1:])
    assert (code, "trusted from now on: mine" in said) == (0, True), said
    for words in (*others, ("search", "red", "--in", gallery, "--device", "cpu")):
        code, said = typed(*words)
        assert code == 0, said
    assert "mine.pooling" in (home / "exported" / "config.yaml").read_text()
    shown = tireid.load(home / "exported").encode_text(["red"])
    torch.testing.assert_close(shown, tireid.load(copied).encode_text(["red"]))


@pytest.mark.slow
def test_trust_may_be_given_for_one_load_which_needs_no_loss(copied):
    assert not (copied.parent / "mine" / "hinge.py").exists()
    with pytest.raises(ValueError, match=r"mine\.pooling\.Pooling.*--trust mine"):
        tireid.load(copied)
    assert not imported()
    assert len(tireid.load(copied, trust=["mine"]).encode_text(["red"])) == 1
    with pytest.raises(ValueError, match="nothing was built"):
        tireid.load(copied)


def test_a_loss_of_another_package_is_neither_built_nor_asked_for(untrained_run, home, monkeypatch):
    run = shutil.copytree(untrained_run("model=baseline"), home / "run")
    monkeypatch.syspath_prepend(home)
    (home / "theirs.py").write_text("raise RuntimeError('imported')")
    settings = OmegaConf.load(run / "config.yaml")
    settings.model.alignment._target_ = "theirs.Loss"
    OmegaConf.save(settings, run / "config.yaml")
    assert len(tireid.load(run).encode_text(["red"])) == 1
    assert not imported()
    loss = inference_config(run).model.alignment
    with pytest.raises(ValueError, match=r"expected theirs\.Loss to train with"):
        instantiate(loss)()


@pytest.mark.slow
def test_a_trusted_package_that_is_not_here_is_told_from_a_wrong_name(copied, home):
    settings = OmegaConf.load(copied / "config.yaml")
    for target, message in {
        "nowhere.Method": "nowhere is trusted, but is not installed here",
        "mine.pooling.Nobody": "mine is trusted, but has nothing of this name",
        "mine.pooling.torch.nn.Linear": "mine is trusted, but has nothing of this name",
    }.items():
        settings.model._target_ = target
        OmegaConf.save(settings, copied / "config.yaml")
        with pytest.raises(ValueError, match=message):
            tireid.load(copied, trust=["mine", "nowhere"])


def test_what_may_be_trusted(home, monkeypatch):
    for name in ("os", "subprocess", "tireid", "a b", "mine.part", ""):
        with pytest.raises(ValueError, match="trust: expected the name of a package"):
            remember([name])
    assert "mine" not in trusted()
    remember(["mine"])
    remember(["theirs"])
    assert {"mine", "theirs"} <= trusted()
    plugin = EntryPoint("any", "plugged.methods:Method", GROUP)
    monkeypatch.setattr("tireid.inference.trust.entry_points", lambda group: [plugin])
    assert "plugged" in trusted()


def test_new_writes_nothing_over_and_names_what_it_expects(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(ValueError, match="expected a checkout of tireid"):
        new("method", "pooling")
    for wrong in ("Pooling", "class", "../x"):
        with pytest.raises(ValueError, match="expected a name in small letters"):
            new("method", wrong, "mine")
    new("method", "pooling", "mine")
    with pytest.raises(FileExistsError, match=r"pooling\.py: expected no such file"):
        new("method", "pooling", "mine")
    (home / "src/tireid/methods").mkdir(parents=True)
    written = [str(file) for kind in KINDS for file in new(kind, "two_words")]
    assert "tests/methods/test_two_words.py" in written
    assert "class TwoWords(RetrievalModule)" in Path("src/tireid/methods/two_words.py").read_text()


def test_new_tells_how_another_checkout_than_this_is_run(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    (home / "src/tireid/methods").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["tireid", "new", "loss", "hinge"])
    main()
    assert "then: PYTHONPATH=src tireid train model/alignment=hinge" in capsys.readouterr().out
