"""What each row cost: time, memory, weights; and what it reached for that."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from tireid.comparison.report.blocks import Block, Figure, Figures, Note, Section, Table
from tireid.comparison.report.material import Material, Row, Run
from tireid.comparison.report.style import WIDTH, drawing, figure
from tireid.comparison.report.words import NONE, row_line, spread

_TEACHER_SETTINGS = ("image_encoder", "text_encoder", "dataset", "supports", "batch_size")
_FOUND_READY = 0.2  # of the student's time: in less no teacher is trained
_SECONDS = {"hours": 3600.0, "minutes": 60.0}


def costs(material: Material) -> Section:
    """Return a table of costs, and figures of cost against quality."""
    teachers = _teachers([run for row in material.rows for run in row.runs])
    taught = any(_teacher(row, teachers) for row in material.rows)
    devices = {run.record.get("device") for row in material.rows for run in row.runs} - {None}
    unit = _unit(max(_seconds(row) + _teacher(row, teachers) for row in material.rows))
    head = ["run", f"training, {unit}"]
    head += [f"teacher, {unit}", f"both, {unit}"] if taught else []
    head += ["images a second", "peak memory, MiB", "million weights", "of them trained"]
    head += ["device"] if len(devices) > 1 else []
    lines = []
    for row in material.rows:
        own, teacher = _seconds(row), _teacher(row, teachers)
        cells = [_in(unit, own)]
        if taught:
            cells += [_in(unit, teacher) if teacher else NONE, _in(unit, own + teacher)]
            if 0 < teacher < _FOUND_READY * own:
                cells[-2:] = ["found ready", NONE]
        trained = row.runs[0].record.get("parameters", {}).get("trained")
        cells += [
            spread([run.result.images_per_second for run in row.runs], 0),
            spread(_recorded(row, "peak_memory_mib"), 0),
            f"{row.first.parameters / 1e6:.1f}",
            NONE if trained is None else f"{trained / 1e6:.1f}",
        ]
        cells += [str(row.runs[0].record.get("device", NONE))] if len(devices) > 1 else []
        lines.append(row_line(row, cells))
    said = f"On {next(iter(devices))}. " if len(devices) == 1 else ""
    blocks: list[Block] = [
        Note(
            f"{said}Means over seeds. Time is that of training steps; what else ran on the "
            "machine at the time is not known, so small differences say nothing."
        ),
        Table(head, lines, "Costs", tail=1 if len(devices) > 1 else 0),
    ]
    if taught:
        blocks.append(
            Note(
                "A teacher is trained first, and its time is a price of the row too. Where runs "
                "share one, all are charged what the run that trained it took; where that is not "
                "here, the teacher was found ready, and the row's whole price is not known."
            )
        )
    for dataset in material.datasets:
        rows = [row for row in material.rows_on(dataset) if row.values("test/R1")]
        several = f" on {dataset}" if len(material.datasets) > 1 else ""
        if rows:
            blocks.append(
                Figures(
                    [_against_time(rows, teachers, unit, several), _against_size(rows, several)]
                )
            )
    return Section("costs", "Costs", blocks)


def _seconds(row: Row) -> float:
    return statistics.fmean(run.result.seconds for run in row.runs)


def _recorded(row: Row, name: str) -> list[float]:
    found = [run.record.get(name) for run in row.runs]
    return [value for value in found if value is not None]


def _teachers(runs: Sequence[Run]) -> dict[str, float]:
    """Return the longest that one of the runs with a teacher spent on it, by the teacher."""
    found: dict[str, float] = {}
    for run in runs:
        seconds = (run.record.get("teacher") or {}).get("seconds")
        if seconds is not None:
            found[_key(run)] = max(seconds, found.get(_key(run), 0.0))
    return found


def _teacher(row: Row, teachers: dict[str, float]) -> float:
    found = [teachers[_key(run)] for run in row.runs if _key(run) in teachers]
    return statistics.fmean(found) if found else 0.0


def _key(run: Run) -> str:
    """Return what a run's teacher depends on, nearly; empty for a run that has none."""
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
    """Return hours, or minutes where none of the rows took an hour."""
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
            own = _seconds(row) / _SECONDS[unit]
            teacher = _teacher(row, teachers) / _SECONDS[unit]
            if teacher:
                taught = True
                quality = statistics.fmean(row.values("test/R1"))
                line = {"color": row.style.colour, "marker": row.style.marker}
                axes.plot([own, own + teacher], [quality] * 2, ":", color=row.style.colour)
                axes.plot(own, quality, **line, markerfacecolor="white", markersize=7)
            _point(axes, own + teacher, row)
        axes.set(xlabel=f"training, {unit}", ylabel="test R@1, percent")
        axes.set_xlim(left=0)
        title = f"Test R@1 against training time{several}"
        title += "; hollow: without the teacher's" if taught else ""
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


def _point(axes: Any, place: float, row: Row) -> None:
    """Draw a row's mean, and a line over its seeds."""
    values = row.values("test/R1")
    axes.plot([place] * 2, [min(values), max(values)], color=row.style.colour, linewidth=1.2)
    axes.plot(
        place, statistics.fmean(values), color=row.style.colour, marker=row.style.marker,
        markersize=7,
    )  # fmt: skip
