"""Search the settings of a training: an optimiser proposes, validation decides."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tireid.comparison.table import markdown
from tireid.console import silence_expected_warnings
from tireid.files import write_text
from tireid.inference.build import SETTINGS_ERRORS
from tireid.sweeps.chart import draw_study
from tireid.sweeps.grid import run_in_process
from tireid.sweeps.space import Dimension, read_space
from tireid.sweeps.study import Study, Trial
from tireid.training.errors import recorded_failure


def tune(cfg: DictConfig) -> list[Trial]:
    """Try settings until there are as many trials as asked for; each is a run folder.

    Args:
        cfg: Composed from `conf/tune.yaml`.

    Returns:
        All trials of the study, the best first.

    Raises:
        ValueError: If a setting is out of its range, or no trial is complete.
    """
    silence_expected_warnings()
    if OmegaConf.select(cfg, "search") is None:
        raise ValueError("search: expected the name of a file in conf/search; set search=...")
    for name, least in (("trials", 1), ("random_trials", 0), ("seed", 0)):
        if not isinstance(cfg[name], int) or cfg[name] < least:
            raise ValueError(f"{name}: expected an integer >= {least}, got {cfg[name]!r}")
    search: Any = OmegaConf.to_container(cfg.search, resolve=True)
    space = read_space(search["space"])
    fixed = [str(text) for text in (*search["train"], *shlex.split(cfg.train))]
    monitor = _monitor(fixed, space)
    folder = Path(cfg.output or Path("runs") / "searches" / search["name"])
    study = Study(folder, space, seed=cfg.seed, random_trials=cfg.random_trials)
    console = Console(highlight=False, soft_wrap=True)
    while True:
        with study.next(cfg.trials) as trial:
            if trial is None:
                break
            console.print(
                f"trial {trial.number + 1}: {' '.join(trial.overrides)}", style="bold", markup=False
            )
            study.tell(trial, _run(trial, fixed, monitor))
    trials = study.trials()
    if not any(trial.value is not None for trial in trials):
        raise ValueError(f"{folder}: expected a complete trial, got none of {len(trials)}")
    _show(console, trials, fixed, monitor)
    _write(folder, trials, space, monitor)
    console.print(f"{folder}: trials.csv, trials.md, trials.png", markup=False)
    return trials


def _monitor(fixed: Sequence[str], space: Sequence[Dimension]) -> str:
    """Return the metric that trials are judged by.

    Raises:
        ValueError: If it would be one of the test split.
    """
    names = {dimension.name for dimension in space}
    train = compose("train", list(fixed))
    if train.selection != "val" or train.validation_split != "val" or names & {"selection"}:
        raise ValueError(
            "train: expected selection=val and validation_split=val, since validation decides in a "
            f"search, got selection={train.selection}, validation_split={train.validation_split}"
        )
    monitor: str = train.monitor
    return monitor


def _run(trial: Trial, fixed: Sequence[str], monitor: str) -> float | None:
    """Train with a trial's settings; None if that fails."""
    overrides = [*fixed, *trial.overrides]
    place = str(trial.folder.absolute()).replace("\\", "\\\\").replace('"', '\\"')
    told = trial.folder / ".hydra" / "overrides.yaml"
    told.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(yaml.safe_dump(overrides), encoding="utf-8")
    try:
        with recorded_failure(trial.folder, keep=True):
            train = compose("train", [*overrides, f'paths.output_dir="{place}"'])
    except SETTINGS_ERRORS as error:
        said = f"failed: {' '.join(trial.overrides)}: {error}"
        Console(stderr=True, soft_wrap=True).print(said, style="bold red", markup=False)
        return None
    metrics = run_in_process(train, overrides, trial.folder)
    return None if metrics is None else metrics.get(monitor)


def _show(console: Console, trials: Sequence[Trial], fixed: Sequence[str], monitor: str) -> None:
    head, rows = _table(trials, monitor)
    shown = Table()
    for number, name in enumerate(head):
        shown.add_column(name, justify="right" if number < 2 else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*map(Text, row))
    wide = console.options.update(width=10_000)
    console.width = max(console.width, console.measure(shown, options=wide).maximum)
    console.print(shown)
    best = trials[0]
    command = shlex.join([*fixed, *best.overrides])
    console.print(f"best: {monitor} {best.value:.2f} in {best.folder}", style="bold", markup=False)
    console.print(f"python -m tireid train {command}", markup=False)


def _write(folder: Path, trials: Sequence[Trial], space: Sequence[Dimension], monitor: str) -> None:
    head, rows = _table(trials, monitor)
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([head, *rows])
    write_text(folder / "trials.csv", lines.getvalue())
    write_text(folder / "trials.md", markdown(head, rows) + "\n")
    draw_study(trials, space, monitor, folder / "trials.png")


def _table(trials: Sequence[Trial], monitor: str) -> tuple[list[str], list[list[str]]]:
    names = [text.split("=", 1)[0] for text in trials[0].overrides]
    head = ["trial", monitor, *names, "folder"]
    rows = [
        [
            str(trial.number + 1),
            trial.state if trial.value is None else f"{trial.value:.2f}",
            *(text.split("=", 1)[1] for text in trial.overrides),
            trial.folder.name,
        ]
        for trial in trials
    ]
    return head, rows
