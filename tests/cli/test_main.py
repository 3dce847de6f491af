"""The command `tireid`: what it starts, what it imports, what it says of wrong words."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser

from tests.forked import Command
from tireid import __version__
from tireid.cli.commands import COMMANDS, WITHOUT_HYDRA
from tireid.cli.hydra_app import OPTIONS, as_overrides
from tireid.cli.main import main
from tireid.cli.mistyped import MISTAKES, explain_mistake
from tireid.files import conf_dir

HEAVY = {"torch", "lightning", "transformers", "matplotlib", "numpy", "wandb"}
MARK = "-- imported:"
START = "import sys; sys.argv[0] = 'tireid'; from tireid.cli.main import main; "


def run(*arguments):
    """Run `tireid ARGUMENTS` in a process of its own."""
    return Command(["tireid", *arguments], Path.cwd()).finish()


def imported(*arguments):
    """Return what `tireid ARGUMENTS` shows, and the packages that it has imported at its end."""
    code = f"{START}import atexit; atexit.register(lambda: print({MARK!r}, *sys.modules)); main()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shown, _, modules = done.stdout.rpartition(MARK)
    return shown, {name.partition(".")[0] for name in modules.split()}


def said(monkeypatch, capsys, *arguments):
    """Return the exit code, standard output and standard error of `tireid ARGUMENTS`."""
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):  # which it may set: given back by monkeypatch
        if name not in os.environ:
            monkeypatch.setenv(name, "")
            del os.environ[name]
    monkeypatch.setattr(sys, "argv", ["tireid", *arguments])
    code = 0
    try:
        main()
    except SystemExit as exit_:
        code = exit_.code
    text = capsys.readouterr()
    return code, text.out, text.err


def test_help_lists_every_command_and_imports_nothing_heavy(monkeypatch, capsys):
    code, out, _ = said(monkeypatch, capsys, "--help")
    assert code == 0
    for name, what in COMMANDS.items():
        assert f"  {name} " in out
        assert what in out
    assert not imported("--help")[1] & {*HEAVY, "hydra", "omegaconf", "rich", "yaml", "filelock"}


def test_waiting_threads_soon_sleep_unless_the_environment_says_otherwise(monkeypatch, capsys):
    """It is set before torch is loaded, which reads it then."""
    cases = ({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)
    for given, expected in cases:
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        said(monkeypatch, capsys, "--version")
        assert os.environ.get("GOMP_SPINCOUNT") == expected
    assert "torch" not in imported("--version")[1]


def test_several_data_sets_of_evaluate_are_configs_of_their_own(capsys):
    words = ["run=r", "dataset=[cuhk_pedes, custom]", "dataset.root=/d", "datasets.custom.root=/c"]
    assert as_overrides("evaluate", words) == [
        "+dataset@datasets.cuhk_pedes=cuhk_pedes",
        "+dataset@datasets.custom=custom",
        "run=r",
        "datasets.cuhk_pedes.root=/d",
        "datasets.custom.root=/d",
        "datasets.custom.root=/c",
    ]
    assert as_overrides("tune", words) == words
    assert as_overrides("train", ["model=irra", "dataset=[shop, custom]"]) == [
        "dataset=mixed",
        "dataset.read.sets={shop: null, custom: null}",
        "model=irra",
    ]
    with pytest.raises(SystemExit):
        as_overrides("evaluate", ["dataset=[a,a]"])
    assert "expected the names of different data sets" in capsys.readouterr().err


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tireid.cli.main.run_command", interrupted)
    code, out, err = said(monkeypatch, capsys, "compare", "runs")
    assert (code, out, err) == (130, "", "stopped by Ctrl-C\n")


def test_a_rank_that_is_no_number_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "abc")
    code, out, err = said(monkeypatch, capsys, "train")
    assert (code, out) == (1, "")
    assert err.startswith("error: RANK: expected a whole number")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_nothing_heavy(name):
    shown, modules = imported(name, "--help")
    assert not modules & {*HEAVY, "hydra", "omegaconf"}
    assert "tireid.cli" not in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_names_it_its_settings_and_examples(monkeypatch, capsys, name):
    _, out, _ = said(monkeypatch, capsys, name, "--help")
    assert f"tireid {name}" in out.splitlines()[0]
    assert f"  tireid {name} " in out.partition("\n\n")[2]
    assert "--trust PACKAGE" in out
    if name not in WITHOUT_HYDRA:
        assert out.startswith(f"tireid {name}: {COMMANDS[name]}\n")
        assert f"\n  {FIRST[name]}" in out
    if name not in ("train", "convert"):
        assert "\n  model=" not in out
        assert "\n  recipe=" not in out


FIRST = {
    "train": "seed: 1\n",
    "evaluate": "split: test # test or val\n",
    "explain": "queries: 8 # random captions",
    "export": "output: null # the folder to create\n",
    "convert": "official: null # the checkpoint, or hf://OWNER/NAME",
    "tune": "trials: 20 # complete or failed",
}


def test_the_config_of_a_job_is_shown_with_its_overrides_and_nothing_heavy_is_imported():
    shown, modules = imported("train", "--cfg", "job", "seed=7", "model=baseline")
    assert "\nseed: 7\n" in shown
    assert not modules & HEAVY


def test_the_version_is_the_package_s(monkeypatch, capsys):
    assert said(monkeypatch, capsys, "--version") == (0, f"tireid {__version__}\n", "")


def test_no_command_is_told_from_asking_for_help(monkeypatch, capsys):
    code, out, _ = said(monkeypatch, capsys)
    assert code == 2
    assert out.startswith("usage: tireid COMMAND")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "did you mean train?"),
        (["evalaute", "run=a"], "did you mean evaluate?"),
        (["model=lgur", "seed=2"], "did you mean tireid train model=lgur seed=2?"),
        (["--multirun", "model=lgur,lcr2s"], "did you mean tireid train --multirun model="),
        (["--verison"], "did you mean --version?"),
        (["train", "--mulitrun"], "did you mean --multirun?"),
        (["export", "--confg-dir=a"], "did you mean --config-dir?"),
        (["train", "--seed=2"], "values are set by name=value"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_and_code_2(monkeypatch, capsys, arguments, hint):
    code, out, err = said(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert "expected" in err
    assert hint in err


def test_a_word_near_to_none_is_answered_with_the_list(monkeypatch, capsys):
    code, _, err = said(monkeypatch, capsys, "xyzzy")
    assert code == 2
    assert "expected a command, got 'xyzzy'\n" in err
    assert "evaluate" in err


def test_every_option_of_hydra_is_known():
    spellings = [word for action in get_args_parser()._actions for word in action.option_strings]
    assert sorted(OPTIONS) == sorted(word for word in spellings if word.startswith("--"))


def test_a_wrong_choice_is_answered_with_the_nearest_and_with_all(tmp_path):
    shown = run("train", "model=lgru", f"paths.runs_dir={tmp_path}")
    assert shown.returncode == 1
    assert "Could not find 'model/lgru'; did you mean model=lgur?" in shown.stderr
    assert "lgur_official" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("max_epoch=2", "max_epoch: expected a setting of tireid train, got no such name; did you "
         "mean max_epochs?"),
        ("modle=lgur", "did you mean model?"),
        ("dataset=cuhk", "did you mean dataset=cuhk_pedes?"),
        ("dataset.flip=1", "did you mean dataset.flip_probability?"),
        ("dataset.root=a", "these have it: dataset=cuhk_pedes, dataset=custom, "),
        ("experimnt=lgur", "did you mean experiment?"),
        ("dictionary_size=3", "did you mean model.head.dictionary_size?"),
        ("model.head.dictionary_siz=3", "did you mean model.head.dictionary_size?"),
        ("xyzzy=3", "tireid train --help lists them"),
        ("dataset.root=[a", "expected NAME=VALUE"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_answered_with_the_nearest(override, hint):
    overrides = [override]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        with pytest.raises(MISTAKES) as refused:
            compose("train", overrides)
        message = explain_mistake(refused.value, "train", overrides)
    assert hint in message
    assert "+" not in message


@pytest.mark.parametrize(
    "path",
    ["/data/a=b", "br[1]", "it's", "a#b", "/d/\u00e9", "a(1", "{a", "/d/a,b", 'a"(b'],
)
def test_a_path_with_signs_is_answered_with_what_to_type(path):
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        with pytest.raises(MISTAKES) as refused:
            compose("train", [f"dataset.root={path}"])
        message = explain_mistake(refused.value, "train", [f"dataset.root={path}"])
        (typed,) = (word for word in shlex.split(message.partition("type ")[2])[:1])
        cfg = compose("train", ["dataset=cuhk_pedes", typed.removesuffix(";")])
    assert cfg.dataset.root == path


@pytest.mark.slow
def test_a_start_that_fails_leaves_no_folder(tmp_path):
    places = [f"paths.runs_dir={tmp_path / 'runs'}", f"paths.cache_dir={tmp_path}", "logger=csv"]
    people = ["num_train_ids=4", "num_val_ids=2", "num_test_ids=2", "images_per_id=2"]
    small = ["trainer=cpu", "max_epochs=1", *(f"dataset.read.{size}" for size in people)]
    wrong = "image_encoder.module.depths=[1]"  # found as the model is built, late
    told = run("train", "model=baseline", *places, *small, wrong)
    assert told.returncode == 1
    assert "error: " in told.stderr
    assert not (tmp_path / "runs").exists()


def test_wrong_input_is_one_message_and_code_1(monkeypatch, capsys):
    code, out, err = said(monkeypatch, capsys, "evaluate", "run=nowhere")
    assert (code, out) == (1, "")
    assert err.startswith("error: nowhere: expected a run folder")


@pytest.fixture(scope="module")
def completions(tmp_path_factory):
    """Return a function from a typed line to what bash offers, by Hydra's script."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "tireid"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{START}main()" "$@"\n')
    program.chmod(0o755)
    place = tmp_path_factory.mktemp("place")
    (place / "runs").mkdir()
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def offered(line):
        words = line.split() + ([""] if line.endswith(" ") else [])
        script = (
            'eval "$(tireid -sc install=bash)"\n'
            f"COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_CWORD={len(words) - 1}\n"
            "hydra_bash_completion\n"
            'printf "%s\\n" "${COMPREPLY[@]}"\n'
            "complete -p tireid\n"
        )
        shown = subprocess.run(
            [shutil.which("bash"), "-c", script],
            env=os.environ | path,
            cwd=place,
            capture_output=True,
            text=True,
        )
        assert shown.stderr == ""
        *offers, rule = shown.stdout.splitlines()
        assert rule.endswith("-F hydra_bash_completion tireid")
        return [offer for offer in offers if offer]

    return offered


class TestCompletion:
    def test_commands_come_first(self, completions):
        assert completions("tireid t") == ["train", "tune"]
        assert completions("tireid ") == list(COMMANDS)

    def test_overrides_are_those_of_the_command(self, completions):
        assert completions("tireid train model=lg") == ["model=lgur", "model=lgur_official"]
        assert completions("tireid export out") == ["output="]
        assert "run=" in completions("tireid evaluate ")
        head = completions("tireid train model=lgur model.head.")
        assert "model.head.dictionary_size=" in head

    def test_options_are_hydra_s(self, completions):
        assert completions("tireid train --mul") == ["--multirun"]

    def test_other_commands_leave_files_to_the_shell(self, completions):
        assert completions("tireid compare ru") == ["runs"]
        assert completions("tireid compare mo") == []
        assert completions("tireid nothing ru") == ["runs"]

    def test_it_imports_nothing_heavy(self, monkeypatch):
        monkeypatch.setenv("COMP_LINE", "tireid train model=")
        assert not imported("-sc", "query=bash")[1] & HEAVY

    def test_a_command_installs_the_same(self, monkeypatch, capsys):
        scripts = []
        for arguments in (["-sc", "install=bash"], ["train", "-sc", "install=bash"]):
            monkeypatch.setattr(sys, "argv", ["tireid", *arguments])
            main()
            scripts.append(capsys.readouterr().out)
        assert scripts[0] == scripts[1]
        assert scripts[0].rstrip().endswith(" tireid")

    def test_fish_and_zsh_are_hydra_s(self, monkeypatch, capsys):
        for shell, line in ("fish", "complete -c tireid"), ("zsh", "hydra_bash_completion tireid"):
            monkeypatch.setattr(sys, "argv", ["tireid", "train", "-sc", f"install={shell}"])
            main()
            assert line in capsys.readouterr().out


def test_convert_export_and_evaluate_take_options_for_overrides(monkeypatch, capsys):
    cases = {
        ("--from", "lgur", "a b", "output=x"): ["source=lgur", "official='a b'", "output=x"],
        ("--from=lgur", "--cfg", "job"): ["source=lgur", "--cfg", "job"],
        ("official=a.pth", "output=x"): ["official=a.pth", "output=x"],
    }
    for words, expected in cases.items():
        assert as_overrides("convert", list(words)) == expected
    assert as_overrides("export", ["run=a", "--push", "me/it"]) == ["run=a", "push=me/it"]
    assert as_overrides("train", ["a"]) == ["a"]
    words = ["--model", "them/a b's@96x32", "dataset=[x,y]"]
    expected = ["+dataset@datasets.x=x", "+dataset@datasets.y=y", r"run='them/a b\'s@96x32'"]
    assert as_overrides("evaluate", words) == expected
    code, _, err = said(monkeypatch, capsys, "convert", "--from")
    assert code == 2
    assert "--from: expected a source" in err
