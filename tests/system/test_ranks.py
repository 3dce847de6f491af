"""Runs of several processes as users start them: by one command, by torchrun, by srun."""

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.forked import Command
from tireid.runs.log import read_columns

pytestmark = [pytest.mark.slow, pytest.mark.ddp]

SMALL = [
    "trainer=cpu",
    "max_epochs=1",
    "batch_size=8",
    "dataset.read.num_train_ids=8",
    "dataset.read.num_val_ids=3",
    "dataset.read.num_test_ids=5",
    "dataset.read.images_per_id=2",
    "dataset.image_size=[48,16]",
]
TORCHRUN = ["torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=1"]


def start(words, cwd, **environment):
    """Start a module; what it says comes from its standard output."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    known |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment
    return Command(words, cwd, known, merged=True)


def finish(process):
    done = process.finish(500)
    assert done.returncode == 0, done.stdout
    return done.stdout


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def on_two_nodes(words, cwd):
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}"]
    return [start([*TORCHRUN, *rendezvous, "-m", *words], cwd) for _ in range(2)]


def ranks_below(process):
    """Return the process of each rank that a command has started, itself or by torchrun."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (entry / "environ").read_text().split("\0")
        except OSError:  # it has just ended
            continue
        variables = dict(word.split("=", 1) for word in words if "=" in word)
        if parent == process.pid and "RANK" in variables:
            found[int(variables["RANK"])] = int(entry.name)
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def losses(folder):
    return [value for _, value in read_columns(folder / "metrics.csv")["train/loss"]]


@pytest.mark.long
def test_twenty_steps_on_two_processes_are_those_on_one(tmp_path, cache_dir):
    """Both stages of LCR2S over LGUR, through the Trainer, in double precision.

    In single precision the first steps agree to 1e-5; then Adam magnifies the rounding.
    """
    said = {}
    for strategy in ("single", "ddp_cpu"):
        words = [
            *SMALL,
            "model=lcr2s_lgur",
            f"strategy={strategy}",
            "max_epochs=5",
            "text_encoder.module.dropout=0.0",
            "teaching.targets=each_step",
            "teaching.max_epochs=5",
            "trainer.precision=64-true",
            "trainer.log_every_n_steps=1",
            f"paths.cache_dir={cache_dir}",
            f"hydra.run.dir={tmp_path / strategy}",
        ]
        said[strategy] = finish(start(["tireid", "train", *words], tmp_path))
    for stage in (Path("teacher"), Path()):
        alone = losses(tmp_path / "single" / stage)
        assert len(alone) == 20
        assert losses(tmp_path / "ddp_cpu" / stage) == pytest.approx(alone, rel=1e-6)
    # Every line once: those of one process, but for seconds, rates and folders.
    changing = re.compile(r"step \d.*\n| +\d+\.\d s|single|ddp_cpu")
    first, second = (
        changing.sub("", words[words.index("terms of the data") :]) for words in said.values()
    )
    assert first == second


@pytest.mark.long
def test_metrics_on_one_two_and_three_processes_are_equal_to_the_last_digit(tmp_path, cache_dir):
    """25 captions and 25 images: neither two nor three divides them. Nothing is learned."""
    found = []
    for count in (1, 2, 3):
        words = [
            *SMALL,
            "model=lgur",
            "batch_size=12",
            "strategy=ddp_cpu",
            f"strategy.devices={count}",
            "dataset.read.num_val_ids=5",
            "dataset.read.images_per_id=5",
            "dataset.read.captions_per_image=1",
            "recipe.learning_rates={image_encoder:0.0,text_encoder:0.0,head:0.0,classifier:0.0}",
            "image_encoder=vit_tiny",
            f"paths.cache_dir={cache_dir}",
            f"hydra.run.dir={tmp_path / str(count)}",
        ]
        finish(start(["tireid", "train", *words], tmp_path))
        record = json.loads((tmp_path / str(count) / "metrics.json").read_text())
        assert record["processes"] == count
        found.append(record["metrics"])
    assert "val/R1" in found[0]
    assert found[0] == found[1] == found[2]


def test_two_nodes_of_torchrun_share_one_run_folder(tmp_path, cache_dir):
    words = [*SMALL, "model=lgur", "strategy=torchrun", f"paths.cache_dir={cache_dir}"]
    first, second = (finish(node) for node in on_two_nodes(["tireid", "train", *words], tmp_path))
    runs = tmp_path / "runs" / "synthetic" / "lgur"
    (folder,) = (path for path in runs.iterdir() if path.name != "latest")
    assert (runs / "latest").resolve() == folder
    assert json.loads((folder / "metrics.json").read_text())["processes"] == 2
    spoken = [said.count(word) for said in (first, second) for word in ("epoch", "run folder")]
    assert sorted(spoken) in ([0, 0, 1, 1], [0, 0, 1, 2])  # one of the two speaks


def test_a_slurm_job_names_the_folder_and_an_error_is_said_once(tmp_path, cache_dir):
    """Two tasks with the environment that srun gives them."""
    job = {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NAME": "train",
        "SLURM_STEP_ID": "0",
        "MASTER_ADDR": "127.0.0.1",
    }
    words = [*SMALL, "strategy=slurm", f"paths.cache_dir={cache_dir}", "model=baseline"]

    def run(*overrides):
        tasks = [
            start(
                ["tireid", "train", *words, *overrides],
                tmp_path,
                SLURM_PROCID=number,
                SLURM_NODEID=number,
                SLURM_LOCALID="0",
                **job,
            )
            for number in ("0", "1")
        ]
        said = "".join(task.communicate(timeout=300)[0] for task in tasks)
        return said, [task.returncode for task in tasks]

    said, codes = run("batch_size=9")
    assert codes == [1, 1]
    assert said.count("batch_size: expected a multiple of the 2 processes, got 9") == 1
    job["SLURM_JOB_ID"] = str(free_port())
    said, codes = run("max_epochs=1")
    assert codes == [0, 0], said
    (config,) = (tmp_path / "runs").rglob("config.yaml")  # that of the job that began
    assert config.parent == tmp_path / "runs/synthetic/baseline" / f"job{job['SLURM_JOB_ID']}"


@pytest.mark.parametrize(("rank", "launcher"), [(0, "ddp_cpu"), (1, "ddp_cpu"), (0, "torchrun")])
def test_a_killed_rank_takes_the_run_down_and_is_named(tmp_path, cache_dir, rank, launcher):
    words = [
        "tireid",
        "train",
        *SMALL,
        "model=baseline",
        "max_epochs=500",
        f"strategy={launcher}",
        f"paths.cache_dir={cache_dir}",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    commands = [start(words, tmp_path)] if launcher == "ddp_cpu" else on_two_nodes(words, tmp_path)
    while not (tmp_path / "run" / "checkpoints").is_dir():
        assert [command.poll() for command in commands] == [None] * len(commands)
        time.sleep(0.5)
    ranks = {number: pid for command in commands for number, pid in ranks_below(command).items()}
    assert sorted(ranks) == [0, 1]
    os.kill(ranks[rank], signal.SIGKILL)
    began = time.monotonic()
    said = [command.communicate(timeout=120)[0] for command in commands]
    assert time.monotonic() - began < 60
    assert all(command.returncode for command in commands)
    named = rf"rank {rank} of 2 processes was killed by SIGKILL|rank +: {rank} .*\n.*-9"
    assert re.search(named, "".join(said)), said
    assert not any(is_alive(pid) for pid in ranks.values())


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_a_signal_to_the_command_stops_all_ranks_and_is_told_once(tmp_path, cache_dir, number):
    """In the environment of an sbatch script; the same command then continues the run."""
    job = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "0"}
    words = [*SMALL, "model=baseline", "max_epochs=12", "strategy=ddp_cpu"]
    places = [f"paths.cache_dir={cache_dir}", f"hydra.run.dir={tmp_path / 'run'}"]
    command = start(["tireid", "train", *words, *places], tmp_path, **job)
    while not (tmp_path / "run" / "metrics.csv").is_file():
        assert command.poll() is None
        time.sleep(0.1)
    ranks = ranks_below(command)
    began = time.monotonic()
    command.send_signal(number)
    said, _ = command.communicate(timeout=120)
    assert command.returncode == 75, said
    assert time.monotonic() - began < 30, said
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert len(re.findall(rf"stopped by SIGTERM: step \d+ is in {last}; ", said)) == 1
    assert said.count("stopped by") == 1
    assert "Traceback" not in said
    assert not any(is_alive(pid) for pid in ranks.values())
    said = finish(start(["tireid", "train", *words, *places], tmp_path, **job))
    assert "continuing after epoch" in said


def test_an_error_of_the_users_is_told_once_by_the_command(tmp_path, cache_dir):
    words = [*SMALL, "model=baseline", "strategy=ddp_cpu", "init_weights=nowhere"]
    places = [f"paths.cache_dir={cache_dir}", f"hydra.run.dir={tmp_path / 'run'}"]
    command = start(["tireid", "train", *words, *places], tmp_path)
    said, _ = command.communicate(timeout=300)
    assert command.returncode == 1
    assert said.count("error: ") == said.count("nowhere") == 1, said
    assert "Traceback" not in said


def test_the_processes_end_with_the_command_that_started_them(tmp_path, cache_dir):
    words = [*SMALL, "model=baseline", "max_epochs=500", "strategy=ddp_cpu"]
    places = [f"paths.cache_dir={cache_dir}", f"hydra.run.dir={tmp_path / 'run'}"]
    command = start(["tireid", "train", *words, *places], tmp_path)
    while len(ranks := ranks_below(command)) < 2:
        time.sleep(0.2)
    command.kill()
    command.communicate(timeout=60)  # rank 0 speaks through it, too
    deadline = time.monotonic() + 60
    while any(is_alive(pid) for pid in ranks.values()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
