"""The mode is online with a key, else offline, decided without a prompt and without network."""

import os
import re
import sys
import time
from pathlib import Path

import pytest

import tireid
from tests.forked import Command
from tireid.tracking.session import Mode, brief, find_mode, fitting, is_installed

pytest.importorskip("wandb")
KEY = "0123456789" * 4  # the form of a key, and nobody's
NOWHERE = "http://127.0.0.1:9"  # refuses at once

SAID = r"^wandb|\[wandb\]"

SMALL = [
    "trainer=cpu",
    "max_epochs=1",
    "batch_size=8",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=4",
    "dataset.read.images_per_id=2",
    "dataset.image_size=[48,16]",
    "model=baseline",
    "callbacks.gallery.num_queries=1",
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home: nobody is logged in, and wandb remembers nothing of earlier tests."""
    import wandb

    wandb.teardown()  # first: monkeypatch would bring back the address of wandb's ended process
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield tmp_path
    wandb.teardown()


def test_without_a_login_it_is_offline(home):
    assert find_mode() == Mode("offline", "not logged in")


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("offline", "offline"),
        ("dryrun", "offline"),
        ("disabled", "disabled"),
        ("OFFLINE", "offline"),
    ],
)
def test_the_environments_mode_decides_also_where_somebody_is_logged_in(
    home, monkeypatch, word, mode
):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert find_mode() == Mode("online")
    monkeypatch.setenv("WANDB_MODE", word)
    assert find_mode() == Mode(mode)


def test_a_key_in_the_netrc_file_is_found_and_a_malformed_one_is_reported(home, monkeypatch):
    import wandb

    host = wandb.setup().settings.base_url.removeprefix("https://")
    (home / "netrc").write_text(f"machine {host} login user password {KEY}\n")
    assert find_mode() == Mode("online")
    (home / "netrc").unlink()
    assert find_mode().name == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert find_mode() == Mode("offline", "the API key is malformed")


def test_online_is_not_asked_for_in_vain(home, monkeypatch):
    """It would ask for a key."""
    monkeypatch.setenv("WANDB_MODE", "online")
    assert find_mode() == Mode("offline", "not logged in")


def test_a_folder_of_that_name_is_no_package_and_what_is_blocked_is_not_there(
    tmp_path, monkeypatch
):
    class Blocked:
        @staticmethod
        def find_spec(name, *_):
            if name == "wandb":
                raise ModuleNotFoundError(name)

    assert is_installed()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "wandb", raising=False)
        patch.setattr(sys, "meta_path", [Blocked, *sys.meta_path])
        assert not is_installed()
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert not is_installed()


def run(folder, cache_dir, *overrides, before="", **environment):
    """Train in a process with nothing of this one's set-up and an open terminal's input."""
    places = [f"paths.cache_dir={cache_dir}", f"hydra.run.dir={folder}"]
    package = str(Path(tireid.__file__).parents[1])
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    words = ["tireid", "train", *SMALL, *places, *overrides]
    began = time.monotonic()
    done = Command(words, folder.parent, known | environment, before=before).finish()
    lines = [line for line in (done.stdout + done.stderr).splitlines() if re.search(SAID, line)]
    return done, lines, time.monotonic() - began


@pytest.mark.slow
def test_without_any_set_up_nothing_asks_waits_or_fails(tmp_path, cache_dir, read_logged):
    done, lines, _ = run(tmp_path / "run", cache_dir, HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    logged = read_logged(tmp_path / "run")
    assert logged.exit_code == 0
    assert len(lines) == 1
    assert lines[0].startswith("wandb: kept offline (not logged in); to upload: wandb sync run/")
    assert len(logged.column("val/R1")) == 1
    assert logged.run.name.startswith("Baseline batch_size=8 ")
    assert logged.run.name.endswith(" resnet_tiny+bilstm_tiny synthetic seed1")


@pytest.mark.slow
def test_logged_in_without_network_it_is_offline_after_a_short_wait(
    tmp_path, cache_dir, read_logged
):
    done, lines, seconds = run(
        tmp_path / "run",
        cache_dir,
        "logger.wandb.init_timeout=2",
        HOME=str(tmp_path / "home"),
        WANDB_API_KEY=KEY,
        WANDB_BASE_URL=NOWHERE,
        WANDB_ERROR_REPORTING="false",
    )
    assert done.returncode == 0, done.stderr
    assert seconds < 120
    assert len(lines) == 2
    assert lines[0].endswith("the run is kept offline")
    assert lines[1].startswith("wandb: kept offline (the server was not reached); to upload:")
    logged = read_logged(tmp_path / "run")
    assert len(logged.column("test/R1")) == 1
    (part,) = (tmp_path / "run" / "wandb").glob("*run-2*")  # nothing of the one that began online
    assert part.name.startswith("offline-run-")
    assert KEY not in done.stdout + done.stderr
    texts = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in texts if KEY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_without_wandb_training_works_and_says_so(tmp_path, cache_dir):
    gone = "import sys; sys.modules['wandb'] = None"
    done, lines, _ = run(tmp_path / "run", cache_dir, before=gone, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(lines) == 1
    assert "wandb is not installed" in lines[0]
    assert "pip install -e '.[wandb]'" in lines[0]
    assert (tmp_path / "run" / "metrics.csv").is_file()
    done, lines, _ = run(
        tmp_path / "forced", cache_dir, "logger=wandb", before=gone, HOME=str(tmp_path)
    )
    assert done.returncode == 1
    assert "logger=wandb: expected wandb to be installed" in "".join(lines)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_log_one_run(tmp_path, cache_dir, read_logged):
    done, lines, _ = run(
        tmp_path / "run",
        cache_dir,
        "strategy=ddp_cpu",
        HOME=str(tmp_path),
        WANDB_MODE="offline",
    )
    assert done.returncode == 0, done.stderr
    assert len(lines) == 1
    assert len(list((tmp_path / "run" / "wandb").glob("*run-*/*.wandb"))) == 1
    logged = read_logged(tmp_path / "run")
    assert len(logged.column("val/R1")) == 1
    assert len(logged.table("queries")[1]) > 0
    kinds = [one.type for one in logged.artifacts]
    assert kinds == ["dataset", "run_table", "model", "results"]


def test_what_is_longer_than_wandb_takes_is_cut_and_said(capsys):
    given = {"name": "n" * 200, "group": 7, "tags": ["t" * 100, "short"], "entity": "e" * 200}
    found = fitting(given)
    assert found == given | {"name": "n" * 128, "tags": ["t" * 64, "short"]}
    said = capsys.readouterr().out
    assert said == "wandb: cut to what it takes: name to 128 characters, tags to 64 characters\n"
    assert fitting(found) == found
    assert not capsys.readouterr().out


def test_an_error_about_settings_names_the_setting():
    import wandb

    with pytest.raises(ValueError, match="validation error") as caught:
        wandb.Settings(run_tags=["t" * 100])
    assert re.search(r"Settings run_tags .* 100 characters", brief(caught.value))
    assert brief(OSError("one\ntwo")) == "one"
