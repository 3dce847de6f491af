"""The entry points as processes: exit codes, messages, two processes on the CPU."""

import json
import os
import subprocess
import sys

import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

from tireid.training import launcher, processes
from tireid.training.build import build_trainer

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


def run(command, *overrides, cwd):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "tireid", command, *overrides],
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
    done = run("train", *overrides, f"paths.cache_dir={cache_dir}", cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_evaluate_leaves_nothing_where_it_is_called(tmp_path):
    done = run("evaluate", "run=nowhere", cwd=tmp_path)
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
            "train",
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


@pytest.mark.parametrize(
    ("programs", "first"),
    [
        (["exit(0)", "exit(0)"], None),
        (["exit(1)", "exit(75)"], 1),  # the one that stopped is why the other lost contact
        (["time.sleep(60)", "exit(75)"], 1),  # which waits for it
        (["exit(75)", "os.kill(os.getpid(), 9)"], 1),
        (["exit(1)", "time.sleep(60)"], 0),
    ],
)
def test_what_ended_the_processes_is_known(monkeypatch, programs, first):
    monkeypatch.setattr(launcher, "_GRACE_SECONDS", 1.0)
    started = [
        subprocess.Popen([sys.executable, "-c", f"import os, time; {program}"])
        for program in programs
    ]
    try:
        assert launcher._first_failure(started) == first
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_a_gpu_that_is_not_there_is_missed_in_words(compose_config):
    with pytest.raises(ValueError, match=r"expected a GPU, as trainer=gpu asks .*strategy=ddp_cpu"):
        launcher.processes_to_start(compose_config("trainer=gpu", "strategy=ddp"))
    with pytest.warns(UserWarning, match=r"one process; strategy=ddp_cpu starts two"):
        assert launcher.processes_to_start(compose_config("strategy=ddp")) == 1


def test_a_rank_left_over_in_the_shell_changes_nothing(monkeypatch, compose_config, tmp_path):
    monkeypatch.setattr(processes, "_joined", None)
    monkeypatch.setattr(processes, "_store", None)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning takes it from RANK=1
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    # Also those of a shell within an allocation: without srun it is one process.
    slurm = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "0"}
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", **slurm}.items():
        monkeypatch.setenv(name, value)
    processes.join()
    assert (processes.rank(), processes.world_size(), rank_zero_only.rank) == (0, 1, 0)
    trainer = build_trainer(compose_config("trainer=cpu", f"paths.output_dir={tmp_path}"), [], [])
    assert (trainer.world_size, trainer.global_rank) == (1, 0)


def test_a_process_knows_its_rank_when_lightning_has_forgotten_it(monkeypatch):
    monkeypatch.setattr(processes, "_joined", None)
    monkeypatch.setattr(processes, "_store", None)
    port = launcher._free_port()
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in {**place, processes.FOLDER: "somewhere"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "rendezvous", lambda *_, **__: iter([("store", 0, 2)]))
    processes.join()
    monkeypatch.delenv("WORLD_SIZE")  # as LightningEnvironment does after the first of two stages
    error = RuntimeError("Connection closed by peer [127.0.0.1]")
    assert "rank 0 of 2 processes lost contact" in str(processes.lost_contact(error))
