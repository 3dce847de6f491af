"""The entry points as processes: exit codes, messages, two processes on the CPU."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    PContext,
    Std,
    start_processes,
)

from tests.forked import Command
from tireid.checkpoints import stop_signals
from tireid.training import devices, launcher, processes
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


def started(test):
    """Mark a test that starts ranks: torch replaces handlers, and leaves log files unclosed."""
    test = pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO")(test)
    return pytest.mark.usefixtures("_handlers")(test)


def run(*words, cwd):
    return Command(["tireid", *words], cwd, os.environ | {"OMP_NUM_THREADS": "1"}).finish()


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


METHODS = ["lgur", "baseline", "irra"]
IN_TURN = """
import sys
from hydra import compose, initialize_config_dir
from tireid.files import conf_dir
from tireid.training import processes
from tireid.training.run import train

processes.join()
for overrides in sys.argv[1:]:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("train", overrides.split())
    train(cfg)
processes.leave()
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory, cache_dir):
    """Return a function from a method to its records, untrained, of one process and of two."""
    place = tmp_path_factory.mktemp("records")
    script = place / "in_turn.py"
    script.write_text(IN_TURN)
    common = [
        *(*SMALL, "image_encoder=vit_tiny", f"paths.cache_dir={cache_dir}"),
        "recipe.learning_rates={image_encoder:0.0,text_encoder:0.0,head:0.0,classifier:0.0}",
    ]
    two = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for strategy, starts in (("single", []), ("torchrun", two)):
        trainings = [
            f"{' '.join(common)} model={method} strategy={strategy} paths.output_dir={folder}"
            for method in METHODS
            for folder in [place / strategy / method]
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = Command([*starts, script, *trainings], place, environment).finish()
        assert done.returncode == 0, done.stderr

    def read(method):
        files = [place / strategy / method / "metrics.json" for strategy in ("single", "torchrun")]
        return [json.loads(file.read_text()) for file in files]

    return read


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_evaluate_every_item_once(records, method):
    """An untrained model scores the same on one process and on two, to the last digit."""
    alone, shared = records(method)
    assert (alone["processes"], shared["processes"]) == (1, 2)
    assert alone["metrics"] == shared["metrics"]


def start_programs(folder, *programs):
    """Start programs as ranks are started; the first writes to the terminal."""
    numbers = range(len(programs))
    return start_processes(
        name="test",
        entrypoint=sys.executable,
        args={n: ("-c", f"import os, sys, time; {programs[n]}") for n in numbers},
        envs={n: {} for n in numbers},
        logs_specs=DefaultLogsSpecs(str(folder), {n: Std.ALL for n in numbers if n}),
    )


@pytest.fixture
def _handlers():
    """Leave the signal handlers as they were."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


@started
@pytest.mark.parametrize(
    ("programs", "kind", "message"),
    [
        (["exit(0)", "exit(0)"], None, ""),
        # The one that stopped is why the other lost contact, or waits for it.
        (["time.sleep(2); exit(1)", "exit(75)"], stop_signals.Stopped, "asked"),
        (["time.sleep(60)", "exit(75)"], stop_signals.Stopped, "asked"),
        (
            ["time.sleep(2); exit(75)", "os.kill(os.getpid(), 9)"],
            ChildProcessError,
            "rank 1 of 2 processes was killed by SIGKILL; the others were stopped",
        ),
        (["time.sleep(60)", "exit(1)"], ChildProcessError, r"rank 1 .* failed \(exit code 1\)"),
        (["time.sleep(60)", "exit(2)"], ValueError, "expected a number"),
    ],
)
def test_the_rank_that_failed_first_says_why_all_ended(tmp_path, programs, kind, message):
    if kind is stop_signals.Stopped:
        (tmp_path / "1.json").write_text('{"stopped": "asked to stop"}')
    if kind is ValueError:
        (tmp_path / "1.json").write_text('{"error": "expected a number, got a word"}')
    ranks = start_programs(tmp_path / "logs", *programs)
    result = launcher._wait(ranks)
    ranks.close(signal.SIGKILL)
    assert bool(result.failures) == (kind is not None)
    if kind is not None:
        error = launcher._error(result, tmp_path)
        assert type(error) is kind
        assert re.search(message, getattr(error, "message", str(error)))


@started
def test_the_last_lines_of_a_silent_rank_are_shown_when_it_fails(tmp_path, capfd):
    program = "print(chr(10).join(map(str, range(100)))); print('late', file=sys.stderr); exit(1)"
    result = launcher._wait(start_programs(tmp_path, "time.sleep(60)", program))
    assert capfd.readouterr() == ("", "")
    launcher._error(result, tmp_path)
    shown = capfd.readouterr().err.splitlines()
    assert shown == [*map(str, range(71, 100)), "late"]


@started
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize(("code", "expected"), [(0, None), (75, 75), (3, 143)])
def test_a_signal_stops_all_ranks_and_their_codes_decide(tmp_path, number, code, expected):
    """They are asked by SIGTERM; a second signal does not disturb their end."""
    program = (
        "import signal; signal.signal(15, lambda *_: (time.sleep(0.6), os._exit({}))); "
        "open({!r}, 'w').close(); time.sleep(60)"
    )
    files = [tmp_path / name for name in "ab"]
    ranks = start_programs(tmp_path, *(program.format(code, str(file)) for file in files))
    stop_signals.reset()
    stop_signals.listen()
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def ask():
        while not all(file.exists() for file in files):
            time.sleep(0.05)
        os.kill(os.getpid(), number)
        if number != signal.SIGINT:
            time.sleep(0.3)
            os.kill(os.getpid(), number)

    threading.Thread(target=ask).start()
    if expected == 143:
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as raised:
            launcher._wait(ranks)
        assert getattr(raised.value, "code", expected) == expected
    else:
        result = launcher._wait(ranks)
        codes = {failure.exitcode for failure in result.failures.values()}
        assert codes == ({expected} if expected else set())
    stop_signals.reset()


@started
def test_nohup_stays_in_force_while_ranks_are_started(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(launcher.sys, "executable", "/bin/true")
    try:
        ranks = launcher._start(2, tmp_path, 29000)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert not launcher._wait(ranks).failures
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ranks_know_their_place_and_share_the_cores(tmp_path, monkeypatch):
    """Their addresses are of this machine only; a thread count that is set stays."""
    start = create_autospec(start_processes, return_value=create_autospec(PContext, instance=True))
    monkeypatch.setattr(launcher, "start_processes", start)
    monkeypatch.setattr(launcher, "available_cores", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launcher._start(2, tmp_path, 29000)
    environment = start.call_args.kwargs["envs"][1]
    assert [environment[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")] == ["1", "1", "2"]
    assert environment["MASTER_ADDR"] == "127.0.0.1"
    assert environment["GLOO_SOCKET_IFNAME"].startswith("lo")
    assert environment["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    launcher._start(2, tmp_path, 29000)
    assert start.call_args.kwargs["envs"][0]["OMP_NUM_THREADS"] == "3"


def test_the_store_of_the_ranks_is_closed_to_the_network():
    """Linux tells who listens: no address but that of the machine itself."""
    store = launcher._open_store()
    client = dist.TCPStore("127.0.0.1", store.port, 2, False)
    client.set("a", "b")
    assert store.get("a") == b"b"
    port, found = f"{store.port:04X}", []
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [line.split() for line in Path(file).read_text().splitlines()]
        found += [row[1] for row in rows if row[1].endswith(f":{port}") and row[3] == "0A"]
    assert found == [f"0100007F:{port}"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a stopped orphan")
def test_a_stopped_process_dies_with_the_one_that_started_it():
    child = (
        "import time; from tireid.training import processes; processes.exit_with_parent(); "
        "print('ready', flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys, time; "
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE, "
        f"env=os.environ | {{{processes.PARENT!r}: str(os.getpid())}}); "
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        number = int(process.stdout.readline())
        os.kill(number, signal.SIGSTOP)
        process.kill()
    for _ in range(100):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    os.kill(number, signal.SIGKILL)
    pytest.fail("the stopped process has outlived its parent")


def test_variables_left_over_in_the_environment_are_told_in_seconds(monkeypatch, capsys):
    monkeypatch.setattr(processes, "_group", None)
    monkeypatch.setattr(processes, "_SILENT_SECONDS", 0.1)
    monkeypatch.delenv(processes.FOLDER, raising=False)
    left = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29771"}
    for name, value in left.items():
        monkeypatch.setenv(name, value)

    def nobody_comes(*_, **__):
        time.sleep(1.0)
        raise dist.DistStoreError("Timed out after 601 seconds waiting for clients.")

    monkeypatch.setattr(processes, "rendezvous", nobody_comes)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(
        ConnectionError, match=r"Timed out after 601 seconds.*unset RANK WORLD_SIZE"
    ):
        processes.join()
    said = capsys.readouterr().err
    assert "rank 0 waits for the other 1 of 2 processes" in said
    assert "RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29771" in said
    assert "unset RANK WORLD_SIZE" in said
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_exits_when_the_one_that_started_it_is_gone(monkeypatch):
    exited = threading.Event()
    monkeypatch.setattr(processes.os, "_exit", lambda code: exited.set())
    monkeypatch.setattr(processes, "_let_the_kernel_watch", lambda: None)  # it would kill the tests
    processes.exit_with_parent()  # nobody asks for it
    monkeypatch.setenv(processes.PARENT, str(os.getppid()))
    processes.exit_with_parent()
    assert processes.PARENT not in os.environ  # it is not meant for processes that this one starts
    assert not exited.wait(1.0)
    monkeypatch.setattr(processes.os, "getppid", lambda: 1)  # as an orphan's
    assert exited.wait(5.0)


def test_rank_zero_decides_for_all_in_their_order(monkeypatch):
    store = torch.distributed.HashStore()
    ranks = [processes._Group(rank, 2, store) for rank in (0, 1)]
    answers = iter([{"a": [1, None]}, "b"])
    decided = []
    for group in (*ranks, *ranks):
        monkeypatch.setattr(processes, "_group", group)
        decided.append(processes.decide_on_rank_zero(lambda: next(answers)))
    assert decided == [{"a": [1, None]}, {"a": [1, None]}, "b", "b"]
    told = []
    for group in ranks:
        monkeypatch.setattr(processes, "_group", group)
        told.append(processes.is_first_to_report("batch_size: expected an integer"))
    assert told == [True, False]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_a_gpu_that_is_not_there_is_missed_in_words(compose_config):
    with pytest.raises(ValueError, match=r"expected a GPU, as trainer=gpu asks .*strategy=ddp_cpu"):
        devices.processes_to_start(compose_config("trainer=gpu", "strategy=ddp"))
    with pytest.warns(UserWarning, match=r"one process; strategy=ddp_cpu starts two"):
        assert devices.processes_to_start(compose_config("strategy=ddp")) == 1


def test_a_rank_left_over_in_the_shell_changes_nothing(monkeypatch, compose_config, tmp_path):
    monkeypatch.setattr(processes, "_group", None)
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
    monkeypatch.setattr(processes, "_group", None)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", processes.FOLDER: "somewhere"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "rendezvous", lambda *_, **__: iter([("store", 0, 2)]))
    processes.join()
    monkeypatch.delenv("WORLD_SIZE")  # as LightningEnvironment does after the first of two stages
    error = RuntimeError("Connection closed by peer [127.0.0.1]")
    assert "rank 0 of 2 processes lost contact" in str(processes.lost_contact(error))


def _left(rank):
    processes.leave()
    left = not dist.is_initialized()
    dist.init_process_group(  # again, for the worker that ends it
        "gloo", store=dist.HashStore(), rank=0, world_size=1
    )
    return int(left)


def test_a_rank_that_is_done_leaves_the_process_group(on_ranks):
    processes.leave()  # nothing to leave is no error
    assert on_ranks(1, _left) == [1]
