"""The entry points as processes: exit codes, messages, two processes on the CPU."""

import json
import os
import subprocess
import sys

import pytest

SMALL = [
    "trainer=cpu",
    "max_epochs=1",
    "batch_size=8",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=5",
    "dataset.read.images_per_id=3",
    "dataset.image_size=[48,16]",
]


def run(module, *overrides, cwd):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *overrides],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=560,
        env=environment,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=foo"], "Could not find 'model/foo'"),
        (["batch_size=-1"], "batch_size: expected an integer > 0, got -1"),
        (["dataset=cuhk_pedes"], "dataset.root=DIR"),
        (["dataset.image_size=[0,32]"], "image_size: expected"),
        (["dataset.image_size=64"], "image_size"),
        (["dataset.flip_probability=abc"], "flip_probability"),
    ],
)
def test_bad_input_gives_one_message_and_no_traceback(tmp_path, cache_dir, overrides, message):
    done = run("tireid.train", *overrides, f"paths.cache_dir={cache_dir}", cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_evaluate_leaves_nothing_where_it_is_called(tmp_path):
    done = run("tireid.evaluate", "run=nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "expected a run folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("method", ["lgur", "baseline"])
def test_two_processes_evaluate_every_item_once(tmp_path, cache_dir, method):
    """An untrained model scores the same on one process and on two, to the last digit."""
    found = []
    for strategy in ("single", "ddp_cpu"):
        folder = tmp_path / strategy
        done = run(
            "tireid.train",
            *SMALL,
            f"model={method}",
            f"strategy={strategy}",
            "recipe.learning_rates={image_encoder:0.0,text_encoder:0.0,head:0.0,classifier:0.0}",
            "image_encoder=vit_tiny",
            f"paths.cache_dir={cache_dir}",
            f"hydra.run.dir={folder}",
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        record = json.loads((folder / "metrics.json").read_text())
        assert record["processes"] == (1 if strategy == "single" else 2)
        found.append(record["metrics"])
    assert found[0] == found[1]
