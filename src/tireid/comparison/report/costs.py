"""The costs of each row: time, memory and weights, and its quality against them."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from tireid.comparison.report.blocks import Block, Figure, Figures, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row, Run
from tireid.comparison.report.style import WIDTH, drawing, figure
from tireid.comparison.table import NONE, spread

_TEACHER_SETTINGS = ("image_encoder", "text_encoder", "dataset", "supports", "batch_size")
_REUSED = 0.2  # of the student's time: no teacher is trained in less
_SECONDS = {"hours": 3600.0, "minutes": 60.0}


def costs(comparison: Comparison) -> Section:
    """Return a table of costs, and plots of quality against cost."""
    teachers = _teachers([run for row in comparison.rows for run in row.runs])
    taught = any(_teacher(row, teachers) for row in comparison.rows)
    devices = {run.record.get("device") for row in comparison.rows for run in row.runs} - {None}
    unit = _unit(max(_seconds(row) + _teacher(row, teachers) for row in comparison.rows))
    head = ["run", f"training, {unit}"]
    head += [f"teacher, {unit}", f"both, {unit}"] if taught else []
    head += ["images/s", "peak memory, MiB", "million weights", "of them trained"]
    head += ["device"] if len(devices) > 1 else []
    lines = []
    for row in comparison.rows:
        cells = _times(row, _teacher(row, teachers), unit, taught=taught) + _sizes(row)
        cells += [str(row.runs[0].record.get("device", NONE))] if len(devices) > 1 else []
        lines.append(row.line(cells))
    device = f"On {next(iter(devices))}. " if len(devices) == 1 else ""
    blocks: list[Block] = [
        Note(
            f"{device}Means over seeds. Time is that of the training steps; other load on the "
            "machine is not known, so small differences mean nothing."
        ),
        Table(head, lines, "Training costs", right=1 if len(devices) > 1 else 0),
    ]
    if taught:
        blocks.append(
            Note(
                "The time of a teacher, which is trained first, is part of the costs of its row. "
                "Runs that share a teacher are all charged the time of the run that trained it; "
                "if that run is not here, the teacher was reused and the total is not known."
            )
        )
    for dataset in comparison.datasets:
        rows = [row for row in comparison.rows_on(dataset) if row.values("test/R1")]
        several = f" on {dataset}" if len(comparison.datasets) > 1 else ""
        if rows:
            blocks.append(
                Figures(
                    [_against_time(rows, teachers, unit, several), _against_size(rows, several)]
                )
            )
    return Section("costs", "Costs", blocks)


def _times(row: Row, teacher: float, unit: str, *, taught: bool) -> list[str]:
    student = _seconds(row)
    if not taught:
        return [_in(unit, student)]
    if 0 < teacher < _REUSED * student:
        return [_in(unit, student), "reused", NONE]
    return [
        _in(unit, student),
        _in(unit, teacher) if teacher else NONE,
        _in(unit, student + teacher),
    ]


def _sizes(row: Row) -> list[str]:
    trained = row.runs[0].record.get("parameters", {}).get("trained")
    return [
        spread([run.result.images_per_second for run in row.runs], 0),
        spread(_recorded(row, "peak_memory_mib"), 0),
        f"{row.first.parameters / 1e6:.1f}",
        NONE if trained is None else f"{trained / 1e6:.1f}",
    ]


def _seconds(row: Row) -> float:
    return statistics.fmean(run.result.seconds for run in row.runs)


def _recorded(row: Row, name: str) -> list[float]:
    values = [run.record.get(name) for run in row.runs]
    return [value for value in values if value is not None]


def _teachers(runs: Sequence[Run]) -> dict[str, float]:
    """Return the training time of each teacher: the longest that one of its runs recorded."""
    seconds_of: dict[str, float] = {}
    for run in runs:
        seconds = (run.record.get("teacher") or {}).get("seconds")
        if seconds is not None:
            seconds_of[_key(run)] = max(seconds, seconds_of.get(_key(run), 0.0))
    return seconds_of


def _teacher(row: Row, teachers: dict[str, float]) -> float:
    seconds = [teachers[_key(run)] for run in row.runs if _key(run) in teachers]
    return statistics.fmean(seconds) if seconds else 0.0


def _key(run: Run) -> str:
    """Return the settings that a run's teacher depends on; empty for a run without one."""
    model: Any = run.settings.get("model")
    if not run.record.get("teacher") or not isinstance(model, dict):
        return ""
    content = {name: run.settings.get(name) for name in _TEACHER_SETTINGS}
    teaching: Any = run.settings.get("teaching") or {}
    epochs = teaching.get("max_epochs")
    if epochs is None:
        epochs = [run.settings.get("max_epochs"), teaching.get("epochs_factor")]
    content |= {"teacher": model.get("teacher"), "epochs": epochs}
    return json.dumps([run.result.seed, content], sort_keys=True, default=str)


def _unit(longest: float) -> str:
    """Return hours, or minutes if no row took an hour."""
    return "hours" if longest >= 3600 else "minutes"


def _in(unit: str, seconds: float) -> str:
    return f"{seconds / _SECONDS[unit]:.1f}"


def _against_time(
    rows: Sequence[Row], teachers: dict[str, float], unit: str, several: str
) -> Figure:
    with drawing(WIDTH, 3.0) as drawn:
        axes = drawn.add_subplot()
        taught = False
        for row in rows:
            student = _seconds(row) / _SECONDS[unit]
            teacher = _teacher(row, teachers) / _SECONDS[unit]
            if teacher:
                taught = True
                quality = statistics.fmean(row.values("test/R1"))
                line = {"color": row.style.colour, "marker": row.style.marker}
                axes.plot([student, student + teacher], [quality] * 2, ":", color=row.style.colour)
                axes.plot(student, quality, **line, markerfacecolor="white", markersize=7)
            _point(axes, student + teacher, row)
        axes.set(xlabel=f"training, {unit}", ylabel="test R@1, percent")
        axes.set_xlim(left=0)
        title = f"Test R@1 against training time{several}"
        title += "; hollow: without the teacher" if taught else ""
        alt = "; ".join(
            f"{r.name}: {spread(r.values('test/R1'))} after "
            f"{_in(unit, _seconds(r) + _teacher(r, teachers))} {unit}"
            for r in rows
        )
        return figure(drawn, f"{title}. {alt}", title)


def _against_size(rows: Sequence[Row], several: str) -> Figure:
    with drawing(WIDTH, 3.0) as drawn:
        axes = drawn.add_subplot()
        for row in rows:
            _point(axes, row.first.parameters / 1e6, row)
        axes.set(xlabel="million weights", ylabel="test R@1, percent")
        axes.set_xlim(left=0)
        title = f"Test R@1 against size{several}"
        alt = "; ".join(f"{r.name}: {r.first.parameters / 1e6:.1f} million" for r in rows)
        return figure(drawn, f"{title}. {alt}", title)


def _point(axes: Any, x: float, row: Row) -> None:
    """Draw the mean of a row, and a line over the range of its seeds."""
    values = row.values("test/R1")
    axes.plot([x] * 2, [min(values), max(values)], color=row.style.colour, linewidth=1.2)
    axes.plot(
        x, statistics.fmean(values), color=row.style.colour, marker=row.style.marker,
        markersize=7,
    )  # fmt: skip
