"""Tune the config of a training: Optuna proposes, validation decides."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from tireid.comparison.table import markdown, print_table
from tireid.console import complain, say, silence_expected_warnings
from tireid.files import write_text
from tireid.inference.build import SETTINGS_ERRORS
from tireid.sweeps.chart import draw_study
from tireid.sweeps.grid import run_in_process
from tireid.sweeps.overrides import override_text
from tireid.sweeps.study import Study, Trial, read_space
from tireid.training.errors import recorded_failure


def tune(cfg: DictConfig) -> list[Trial]:
    """Run trials until there are as many as asked for; each is a run folder.

    Args:
        cfg: A config composed from `conf/tune.yaml`.

    Returns:
        All trials of the study, the best first.

    Raises:
        ValueError: If a setting is out of its range, Optuna is missing, or no trial is complete.
    """
    silence_expected_warnings()
    _check(cfg)
    tuning: Any = OmegaConf.to_container(cfg.tuning, resolve=True)
    space = read_space(tuning["space"])
    fixed = [str(text) for text in (*tuning["train"], *shlex.split(cfg.train))]
    monitor = _monitor(fixed, space)
    folder = Path(cfg.output or Path("runs") / "tuning" / tuning["name"])
    study = Study(folder, space, seed=cfg.seed, random_trials=cfg.random_trials)
    while True:
        with study.next(cfg.trials) as trial:
            if trial is None:
                break
            say(f"trial {trial.number + 1}: {' '.join(trial.overrides)}", style="bold")
            study.tell(trial, _run(trial, fixed, monitor))
    trials = study.trials()
    best = trials[0] if trials else None
    if best is None or best.value is None:
        raise ValueError(f"{folder}: expected a complete trial, got none of {len(trials)}")
    _write_table(trials, monitor, folder)
    draw_study(trials, space, monitor, folder / "trials.png")
    say(f"best: {monitor} {best.value:.2f} in {best.folder}", style="bold")
    say(f"tireid train {shlex.join([*fixed, *best.overrides])}")
    say(f"{folder}: trials.csv, trials.md, trials.png")
    return trials


def _check(cfg: DictConfig) -> None:
    if OmegaConf.select(cfg, "tuning") is None:
        raise ValueError("tuning: expected the name of a file in conf/tuning; set tuning=...")
    for name, least in (("trials", 1), ("random_trials", 0), ("seed", 0)):
        if not isinstance(cfg[name], int) or cfg[name] < least:
            raise ValueError(f"{name}: expected an integer >= {least}, got {cfg[name]!r}")
    if find_spec("optuna") is None:
        raise ValueError(
            "expected Optuna to be installed, which proposes the trials; pip install -e '.[sweep]'"
        )


def _monitor(fixed: Sequence[str], space: Mapping[str, Any]) -> str:
    """Return the metric that trials are judged by.

    Raises:
        ValueError: If it would be one of the test split.
    """
    train = compose("train", list(fixed))
    chosen = (train.selection, train.validation_split)
    if chosen != ("val", "val") or space.keys() & {"selection", "validation_split"}:
        raise ValueError(
            "train: expected selection=val and validation_split=val, since validation decides when "
            f"tuning, got selection={train.selection}, validation_split={train.validation_split}"
        )
    monitor: str = train.monitor
    return monitor


def _run(trial: Trial, fixed: Sequence[str], monitor: str) -> float | None:
    """Train with the overrides of a trial; None if that fails."""
    overrides = [*fixed, *trial.overrides]
    record = trial.folder / ".hydra" / "overrides.yaml"
    record.parent.mkdir(parents=True, exist_ok=True)
    write_text(record, yaml.safe_dump(overrides))
    place = override_text(str(trial.folder.absolute()))
    try:
        with recorded_failure(trial.folder, keep=True):
            train = compose("train", [*overrides, f"paths.output_dir={place}"])
    except SETTINGS_ERRORS as error:
        complain(f"failed: {' '.join(trial.overrides)}: {error}")
        return None
    metrics = run_in_process(train, overrides, trial.folder)
    return None if metrics is None else metrics.get(monitor)


def _write_table(trials: Sequence[Trial], monitor: str, folder: Path) -> None:
    """Print the trials, and write them as `trials.csv` and `trials.md`."""
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
    print_table(head, rows, numbers=(0, 1))
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([head, *rows])
    write_text(folder / "trials.csv", lines.getvalue())
    write_text(folder / "trials.md", markdown(head, rows) + "\n")
