"""The targets of the Makefile: what they run, and variables that they would ignore."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
ROOT = Path(__file__).parents[2]


def make(*words):
    """Return what `make -n` prints, or says of an error; nothing is installed."""
    command = ["make", "-n", *words, "READY="]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return shown.stdout if shown.returncode == 0 else f"error: {shown.stderr}"


@pytest.mark.parametrize(
    ("words", "ignored"),
    [
        (
            ["train", "model=baseline", "dataset=cuhk_pedes"],
            "got dataset=cuhk_pedes model=baseline",
        ),
        (["train", "MODEL=lgur", "seed=2"], "got seed=2"),
        (["train", "SWEEP=lgur_ablation"], "got SWEEP=lgur_ablation"),
        (
            ["evaluate", "run=runs/mine"],
            "make evaluate: expected RUN=... ARGS=..., got run=runs/mine",
        ),
        (["help", "Model=lgur"], "got Model=lgur"),
    ],
)
def test_a_variable_that_would_be_ignored_is_refused_with_the_names_that_are_taken(words, ignored):
    said = make(*words)
    assert said.startswith("error: ")
    assert ignored in said
    assert 'ARGS="seed=2"' in said


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (
            ["train", "MODEL=baseline", "DATASET=cuhk_pedes"],
            "train model=baseline dataset=cuhk_pedes",
        ),
        (
            ["train", "MODEL=lgur", "ARGS=seed=2 max_epochs=1"],
            "train model=lgur  seed=2 max_epochs=1",
        ),
        (["sweep", "SWEEP=lgur_ablation", "MODEL=lgur"], "train sweep=lgur_ablation model=lgur"),
        (["tune", "TUNING=x", "TRAIN=y", "ARGS=z"], "tune tuning=x 'train=\"y\"' z"),
        (["doctor", "DATASET=rstpreid", "ROOT=a b"], 'doctor rstpreid "$ROOT"'),
        (["test", "WORKERS=4", "ARGS=-x"], "-n 4 "),
        (
            ["environment", "TORCH=cu126"],
            "--index-url https://download.pytorch.org/whl/cu126 torch==",
        ),
        (["environment", "TORCH=cpu", "TORCH_INDEX=/mirror"], "--index-url /mirror torch=="),
        (["wheel", "PYTHON=python3.12"], "-m build"),
    ],
)
def test_a_target_takes_its_own_variables(words, runs):
    assert runs in make(*words)


def test_a_build_of_pytorch_from_its_own_index_brings_its_own_libraries():
    assert "requirements-cpu.lock" in make("environment")
    assert "-r requirements-cuda.lock" in make("environment", "TORCH=default")
    own = make("environment", "TORCH=cu126")
    assert "-r requirements-cpu.lock" not in own
    assert "-r requirements-cuda.lock" not in own
    assert "echo cu126 > .venv/.torch" in own


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["compare"], ["runs"]),
        (["compare", "RUNS=a run"], ["a run"]),
        (["compare", "RUNS=a b's"], ["a b's"]),
        (["compare", "RUNS=a b"], ["a", "b"]),
        (["compare", "RUNS='a run' b", "ARGS=--csv x"], ["a run", "b", "--csv", "x"]),
        (["evaluate", "RUN=it's a run"], ['run="it\'s a run"']),
        (["explain"], []),
        (["export", "RUN=a (1)", "OUT=b's"], ['run="a (1)"', 'output="b\'s"']),
    ],
)
def test_names_of_folders_may_hold_spaces_and_quotes(tmp_path, words, arguments):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nshift 3\nfor word; do echo "$word"; done\n')
    python.chmod(0o755)
    for name in ("a run", "a b's"):
        (tmp_path / name).mkdir()
    make = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile")]
    command = [*make, *words, "READY=", f"PY={python}"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == arguments


STAND_IN = """#!/bin/sh
echo "$3 $*" | tr '\\n' ' ' >> calls; echo >> calls
case "$3" in
  train) test ! -f untrainable && mkdir -p runs/a/b/c && touch runs/a/b/c/metrics.json;;
  index) touch "$GALLERY/index.json" && test ! -f unreadable;;
esac
"""


@pytest.fixture
def commands_of(tmp_path):
    """Return a function that runs `make`, and returns the commands of tireid that it ran."""
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())

    def ran(*words):
        command = ["make", *words, "READY=", f"PY={python}"]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        calls = tmp_path / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [line.partition(" ")[0] for line in lines]

    return ran


def test_a_search_does_first_what_is_missing_and_once(commands_of):
    assert commands_of("search") == ["train", "index", "search"]
    assert commands_of("search", "TEXT=a woman") == ["search"]
    assert commands_of("serve") == ["serve"]
    assert commands_of("search", "GALLERY=an other") == ["index", "search"]
    assert commands_of("search", "GALLERY=an other") == ["search"]


def test_a_search_goes_on_where_it_was_stopped(commands_of, tmp_path):
    (tmp_path / "untrainable").touch()
    assert commands_of("search") == ["train"]
    (tmp_path / "untrainable").unlink()
    (tmp_path / "unreadable").touch()
    assert commands_of("search") == ["train", "index"]
    (tmp_path / "unreadable").unlink()
    assert commands_of("search") == ["index", "search"]


def test_a_run_that_was_stopped_is_not_taken_for_a_complete_one(commands_of, tmp_path):
    file = tmp_path / "runs" / "a" / "metrics.json"
    file.parent.mkdir(parents=True)
    file.write_text('{\n  "finished": false\n}')
    assert commands_of("search") == ["train", "index", "search"]


def test_an_index_of_one_s_own_is_searched_as_it_is(commands_of, tmp_path):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "index.json").touch()
    assert commands_of("search") == ["search"]


def test_a_gallery_that_was_deleted_is_made_again(commands_of, tmp_path):
    commands_of("search")
    shutil.rmtree(tmp_path / "gallery")
    assert commands_of("search") == ["index", "search"]
