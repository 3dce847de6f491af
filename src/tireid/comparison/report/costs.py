"""The costs of each row: time, memory and weights, and its quality against them."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tireid.comparison.report.blocks import Block, Figure, Figures, Line, Note, Section, Table
from tireid.comparison.report.loading import Comparison, Row, Run
from tireid.comparison.report.style import WIDTH, drawing, figure
from tireid.comparison.table import NONE, spread

_REUSED = 0.2  # of the student's time: no teacher is trained in less


@dataclass(frozen=True, slots=True)
class _Price:
    """The training time of a row, in the report's unit: that of its runs, and of their teachers."""

    row: Row
    student: float
    teacher: float

    @property
    def both(self) -> float:
        return self.student + self.teacher


def costs(comparison: Comparison) -> Section:
    """Return a table of costs, and plots of quality against cost."""
    prices, unit = _prices(comparison.rows)
    taught = any(price.teacher for price in prices)
    devices = {run.record.get("device") for row in comparison.rows for run in row.runs} - {None}
    lines: list[Line] = []
    cells: dict[str, str] = {}
    for price in prices:
        row, first = price.row, price.row.runs[0].record
        cells = {f"training, {unit}": f"{price.student:.1f}"}
        if taught:
            teacher, both = _of_teacher(price)
            cells |= {f"teacher, {unit}": teacher, f"both, {unit}": both}
        memory = [run.record.get("peak_memory_mib") for run in row.runs]
        trained = first.get("parameters", {}).get("trained")
        cells |= {
            "images/s": spread([run.result.images_per_second for run in row.runs], 0),
            "peak memory, MiB": spread([value for value in memory if value is not None], 0),
            "million weights": f"{row.first.parameters / 1e6:.1f}",
            "of them trained": NONE if trained is None else f"{trained / 1e6:.1f}",
        }
        if len(devices) > 1:
            cells["device"] = str(first.get("device", NONE))
        lines.append(row.line(list(cells.values())))
    device = f"On {next(iter(devices))}. " if len(devices) == 1 else ""
    blocks: list[Block] = [
        Note(
            f"{device}Means over seeds. Time is that of the training steps; other load on the "
            "machine is not known, so small differences mean nothing."
        ),
        Table(["run", *cells], lines, "Training costs", right=1 if len(devices) > 1 else 0),
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
        shown = [p for p in prices if p.row.dataset == dataset and p.row.values("test/R1")]
        several = f" on {dataset}" if len(comparison.datasets) > 1 else ""
        if shown:
            blocks.append(
                Figures([_against_time(shown, unit, several), _against_size(shown, several)])
            )
    return Section("costs", "Costs", blocks)


def _prices(rows: Sequence[Row]) -> tuple[list[_Price], str]:
    """Return the training time of rows and its unit: minutes, if no row took an hour."""
    trained: dict[str, float] = {}  # of each teacher, the longest time that a run recorded
    for run in (run for row in rows for run in row.runs):
        if (key := _teacher(run)) is not None:
            trained[key] = max(run.record["teacher"]["seconds"], trained.get(key, 0.0))
    prices = []
    for row in rows:
        teachers = [trained[key] for run in row.runs if (key := _teacher(run)) is not None]
        student = statistics.fmean(run.result.seconds for run in row.runs)
        prices.append(_Price(row, student, statistics.fmean(teachers) if teachers else 0.0))
    in_hours = max(price.both for price in prices) >= 3600
    divisor = 3600 if in_hours else 60
    scaled = [_Price(p.row, p.student / divisor, p.teacher / divisor) for p in prices]
    return scaled, "hours" if in_hours else "minutes"


def _teacher(run: Run) -> str | None:
    """Return the teacher that a run followed; None if it had none."""
    teacher = run.record.get("teacher") or {}
    if teacher.get("seconds") is None:
        return None
    return str(teacher.get("run") or run.folder)  # earlier versions did not record which one


def _of_teacher(price: _Price) -> list[str]:
    if 0 < price.teacher < _REUSED * price.student:
        return ["reused", NONE]
    return [f"{price.teacher:.1f}" if price.teacher else NONE, f"{price.both:.1f}"]


def _against_time(prices: Sequence[_Price], unit: str, several: str) -> Figure:
    title = f"Test R@1 against training time{several}"
    title += "; hollow: without the teacher" if any(price.teacher for price in prices) else ""
    alt = "; ".join(
        f"{p.row.name}: {spread(p.row.values('test/R1'))} after {p.both:.1f} {unit}" for p in prices
    )
    with _quality_against(f"training, {unit}", [(p.row, p.both) for p in prices]) as drawn:
        for price in prices:
            if price.teacher:
                quality = statistics.fmean(price.row.values("test/R1"))
                line = {"color": price.row.style.colour}
                drawn.axes[0].plot([price.student, price.both], [quality] * 2, ":", **line)
                line |= {"marker": price.row.style.marker, "markersize": 7}
                drawn.axes[0].plot(price.student, quality, **line, markerfacecolor="white")
        return figure(drawn, f"{title}. {alt}", title)


def _against_size(prices: Sequence[_Price], several: str) -> Figure:
    sizes = [(price.row, price.row.first.parameters / 1e6) for price in prices]
    title = f"Test R@1 against size{several}"
    alt = "; ".join(f"{row.name}: {size:.1f} million" for row, size in sizes)
    with _quality_against("million weights", sizes) as drawn:
        return figure(drawn, f"{title}. {alt}", title)


@contextmanager
def _quality_against(label: str, points: Sequence[tuple[Row, float]]) -> Iterator[Any]:
    """Yield a plot of each row at a cost: its mean, and a line over the range of its seeds."""
    with drawing(WIDTH, 3.0) as drawn:
        axes = drawn.add_subplot()
        for row, x in points:
            values, line = row.values("test/R1"), {"color": row.style.colour}
            axes.plot([x] * 2, [min(values), max(values)], linewidth=1.2, **line)
            line |= {"marker": row.style.marker, "markersize": 7}
            axes.plot(x, statistics.fmean(values), **line)
        axes.set(xlabel=label, ylabel="test R@1, percent")
        axes.set_xlim(left=0)
        yield drawn
