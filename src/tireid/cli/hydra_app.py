"""Run a command as an application of Hydra: overrides, `--cfg`, `--multirun`, `--help`."""

import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from tireid.cli.commands import FUNCTIONS, did_you_mean

OPTIONS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package"),
    *("--run", "--multirun", "--shell-completion", "--config-path", "--config-name"),
    *("--config-dir", "--experimental-rerun", "--info"),
)
# Of commands: the setting that an option of theirs stands for, and what it expects.
_OPTION_OF = {
    "convert": ("--from", "source", "a source, such as lgur"),
    "evaluate": ("--model", "run", "a run, an export, or a CLIP or SigLIP 2 of the model hub"),
    "export": ("--push", "push", "a repository of the model hub, OWNER/NAME"),
}
_LIST_OF_SETS = re.compile(r"dataset=\[[^\[\]{}]*\]")
_RAISE = "HYDRA_FULL_ERROR"  # lets Hydra raise its errors, not print them
_SHOWING = (
    *("-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info"),
    *("-sc", "--shell-completion"),
)


def only_shows() -> bool:
    """Whether the command line asks to be shown something, such as `--cfg job`."""
    return any(word.partition("=")[0] in _SHOWING for word in sys.argv[1:])


def as_overrides(name: str, words: list[str]) -> list[str]:
    """Return the words of a command line as Hydra takes them.

    These are `--from SOURCE FILE` of `convert`, `--push OWNER/NAME` of `export`, `--model NAME` of
    `evaluate`, and `dataset=[A,B]` of `train` and `evaluate`.

    Args:
        name: The command.
        words: What stands behind it.

    Raises:
        SystemExit: With code 2, if nothing stands behind such an option.
    """
    words = _without_option(name, words)
    return _several_datasets(name, words) if name in ("train", "evaluate") else words


def _without_option(name: str, words: list[str]) -> list[str]:
    option, setting, example = _OPTION_OF.get(name, ("", "", ""))
    starts = [at for at, word in enumerate(words) if word.partition("=")[0] == option]
    if not starts:
        return words
    before, (found, *after) = words[: starts[0]], words[starts[0] :]
    value = found.partition("=")[2] or (after.pop(0) if after else "")
    if not value or value.startswith("-"):
        sys.stderr.write(f"tireid {name}: {option}: expected {example}\n")
        sys.exit(2)
    overrides = [f"{setting}={_quoted(value) if name == 'evaluate' else value}"]
    if name == "convert" and after and not after[0].startswith("-") and "=" not in after[0]:
        overrides.append(f"official={_quoted(after.pop(0))}")
    return [*before, *overrides, *after]


def _quoted(value: str) -> str:
    escaped = value.replace("'", "\\'")
    return f"'{escaped}'"


def _several_datasets(command: str, words: list[str]) -> list[str]:
    """Return words in which `dataset=[A,B]` is what the command has for several sets.

    A training takes them as one, `mixed`. An evaluation has the config of each below `datasets`,
    and what is set of `dataset` is set of each of them.
    """
    lists = [word for word in words if _LIST_OF_SETS.fullmatch(word)]
    if not lists:
        return words
    names = [name.strip("'\" ") for name in lists[-1].partition("=")[2].strip("[] ").split(",")]
    if not all(names) or len(set(names)) < len(names):
        sys.stderr.write(
            f"tireid {command}: {lists[-1]}: expected the names of different data sets, such as "
            "dataset=[cuhk_pedes,icfg_pedes]\n"
        )
        sys.exit(2)
    if command == "train":
        sets = ", ".join(f"{name}: null" for name in names)
        mixed = ["dataset=mixed", f"dataset.read.sets={{{sets}}}"]
        return [*mixed, *(word for word in words if word not in lists)]
    several = [f"+dataset@datasets.{name}={name}" for name in names]
    for word in words:
        if word.startswith("dataset."):
            several += [f"datasets.{name}.{word.removeprefix('dataset.')}" for name in names]
        elif word not in lists:
            several.append(word)
    return several


def check_options(name: str) -> None:
    """Check that a command's options are Hydra's, before anything slow is imported.

    Args:
        name: The command, for the message.

    Raises:
        SystemExit: With code 2, if one is not; suggests the nearest.
    """
    for word in sys.argv[1:]:
        option = word.partition("=")[0]
        if option.startswith("--") and not any(known.startswith(option) for known in OPTIONS):
            hint = did_you_mean(option, OPTIONS)
            sys.stderr.write(
                f"tireid {name}: expected an option of Hydra (--help lists them, values are set "
                f"by name=value), got {option!r}{hint}\n"
            )
            sys.exit(2)


def run_command(name: str) -> None:
    """Run one of `COMMANDS`, whose arguments stand in `sys.argv`."""
    if name in FUNCTIONS:
        run(name, lambda cfg: getattr(importlib.import_module(FUNCTIONS[name]), name)(cfg))
    else:
        importlib.import_module(f"tireid.cli.{name}").main()


def run(name: str, task: Callable[[Any], Any]) -> None:
    """Compose the config `conf/NAME.yaml` by the command line and hand it to a task.

    Nothing else than Hydra is imported before the task runs, so that the task should import its
    work itself.

    Args:
        name: One of `COMMANDS`.
        task: The command, given the composed config.

    Raises:
        SystemExit: With code 1, if the user's input is wrong.
    """
    import hydra

    from tireid.console import complain
    from tireid.files import conf_dir

    main = hydra.main(version_base="1.3", config_path=conf_dir(), config_name=name)
    raised = os.environ.get(_RAISE)

    def guarded(cfg: Any) -> Any:
        if raised is None:
            os.environ.pop(_RAISE, None)
        from tireid.console import silence_expected_warnings
        from tireid.training.command import discard_folder
        from tireid.training.errors import clear_errors

        silence_expected_warnings()
        try:
            with clear_errors():
                return task(cfg)
        except BaseException:
            discard_folder()
            raise

    guarded.__module__ = f"tireid.cli.{name}"  # Hydra names the job after it
    os.environ.setdefault(_RAISE, "1")  # what is wrong with an override, until the task begins
    try:
        main(guarded)()
    except Exception as error:
        from tireid.cli.mistyped import MISTAKES, explain_mistake

        if raised is not None or not (isinstance(error, MISTAKES) and _RAISE in os.environ):
            raise
        overrides = [word for word in sys.argv[1:] if not word.startswith("-")]
        with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
            complain(explain_mistake(error, name, overrides))
        sys.exit(1)
    finally:
        if raised is None:
            os.environ.pop(_RAISE, None)
