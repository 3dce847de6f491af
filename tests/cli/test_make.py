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
        (["compare", "RUNS=a b"], "compare a b"),
        (["doctor", "DATASET=rstpreid", "ROOT=a b"], 'doctor rstpreid "$ROOT"'),
        (["export", "RUN=a", "OUT=b"], "export 'run=\"a\"' 'output=\"b\"'"),
        (["test", "WORKERS=4", "ARGS=-x"], "-n 4 "),
        (["wheel", "PYTHON=python3.12"], "-m build"),
    ],
)
def test_a_target_takes_its_own_variables(words, runs):
    assert runs in make(*words)
