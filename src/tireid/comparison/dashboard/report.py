"""The report on W&B: the runs that it compares, its sections with their texts and panels."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2.interface as wr

from tireid.comparison.dashboard import names
from tireid.comparison.dashboard.charts import Chart
from tireid.comparison.published import Published, published_table
from tireid.comparison.table import markdown
from tireid.metrics.names import compared, headlines

_GRID_WIDTH = 24  # in W&B's units
_MAX_METHODS = 50  # in a panel
_LIMITS = (
    "For research on retrieval. Finding people by a description is surveillance: it needs a lawful "
    "basis, the consent of the people shown, and compliance with the terms of the data sets. Each "
    "result is on one data set and does not predict results on other people, cameras or captions; "
    "results on synthetic data say nothing about photographs. A rank is a suggestion, not an "
    "identification."
)
_NAME = re.compile(r"[\w .@+-]+")  # needs no escaping in filters and addresses
_MAX_TITLE = 128  # characters, a limit of W&B


@dataclass(frozen=True, slots=True)
class Scope:
    """The runs of a report.

    Attributes:
        entity: User or team that owns the project.
        project: Name of the project.
        dataset: Tag of the runs; results on different data sets do not compare.
        group: Only runs of this group; None: all runs.
        by: Settings, by dotted name, that are equal for the seeds of a method.

    Raises:
        ValueError: If a name would need escaping in a filter or an address, or the title is too
            long.
    """

    entity: str
    project: str
    dataset: str
    group: str | None = None
    by: tuple[str, ...] = names.METHOD

    def __post_init__(self) -> None:
        for field in ("entity", "project", "dataset", "group"):
            value: str | None = getattr(self, field)
            if value is not None and not _NAME.fullmatch(value):
                raise ValueError(
                    f"{field}: expected letters, digits, spaces or any of . @ + - _, got {value!r}"
                )
        if len(self.title) > _MAX_TITLE:
            raise ValueError(
                f"expected a title of up to {_MAX_TITLE} characters, got {len(self.title)}: "
                f"{self.title!r}; take a shorter group"
            )

    @property
    def title(self) -> str:
        """The title of the report, by which it is found again."""
        group = f" in {self.group}" if self.group else ""
        return f"Methods compared on {self.dataset}{group}"

    @property
    def settings(self) -> list[str]:
        """The names of `by` as runs log them."""
        return [name.replace(".", "/") for name in self.by]

    def runs(self, *, finished: bool = True) -> wr.Runset:
        """Return the runs, grouped by method.

        Args:
            finished: Whether to leave out runs that are running or have failed.
        """
        # The data set by its tag: filters find it regardless of the names of settings.
        filters = [expr.Tags().isin([self.dataset]), expr.Metric("JobType") == "train"]
        if self.group:
            filters.append(expr.Metric("Group") == self.group)
        if finished:
            filters.append(expr.Metric("State") == "finished")
        return wr.Runset(
            entity=self.entity,
            project=self.project,
            name="finished runs" if finished else "all runs",
            filters=expr.And(*filters),
            groupby=[f"config.{name}" for name in self.settings],
            pinned_columns=[
                "run:displayName",
                *(f"summary:{name}" for name in (*headlines("val/"), *compared("test/"))),
            ],
        )


def build(
    scope: Scope,
    published: Sequence[Published],
    charts: Sequence[Chart],
    logged: Collection[str] = tuple(names.OPTIONAL),
) -> wr.Report:
    """Build the report without asking the server.

    Args:
        scope: The runs that it compares.
        published: Published results on the same data set.
        charts: Charts that the server has stored.
        logged: What runs have logged of `names.OPTIONAL`; panels of the others are left out.
    """
    return wr.Report(
        entity=scope.entity,
        project=scope.project,
        title=scope.title,
        description="Written by tireid dashboard, which updates it in place.",
        width="fluid",
        blocks=[
            *_introduction(scope),
            *_metrics(scope, charts),
            *_curves_and_cost(scope, logged),
            *_examples(scope, logged),
            wr.H1("Published results"),
            *_published(scope, published),
            wr.H1("Limits of use"),
            wr.MarkdownBlock(_LIMITS),
        ],
    )


def _introduction(scope: Scope) -> list[Any]:
    group = f"group `{scope.group}`" if scope.group else "all groups"
    settings = ", ".join(f"`{name}`" for name in scope.settings)
    return [
        wr.MarkdownBlock(
            f"Runs on **{scope.dataset}**, {group}. Runs with equal {settings} count as seeds of "
            "one method: give variants of a method their own labels.\n\n"
            "**Selection.** Settings and checkpoints are chosen on the validation split "
            "(`selection: val` in the config; runs with `selection: test` do not compare). "
            "`test/...` is measured once, with the chosen checkpoint; `val/...` is the best value "
            "of a run for each metric by itself. All metrics are text to image, in percent.\n\n"
            "Compare only runs that were trained and tested on the same files: put them into one "
            "group."
        ),
        wr.TableOfContents(),
    ]


def _metrics(scope: Scope, charts: Sequence[Chart]) -> list[Any]:
    bars = [
        wr.BarPlot(
            title=f"{name}, %",
            metrics=[name],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=_MAX_METHODS * 10,
            max_bars_to_show=_MAX_METHODS,
        )
        for name in (*headlines("val/"), *compared("test/"))
    ]
    blocks = [
        wr.H1("Metrics by method"),
        wr.P("Means over the seeds of a method, with their standard deviation."),
        _grid(scope, bars, columns=3),
    ]
    if charts:
        blocks += [
            wr.H2("Each seed, with published results as reference lines"),
            wr.P(f"A column holds runs with equal {', '.join(names.METHOD)}."),
            _grid(scope, [chart.panel(scope.entity) for chart in charts], columns=1, height=14),
        ]
    return blocks


def _curves_and_cost(scope: Scope, logged: Collection[str]) -> list[Any]:
    lines = [
        *(_line(f"{name}, %", y=[name]) for name in headlines("val/")),
        _line("Loss, sum of the weighted terms", y=[names.LOSS], log_y=True),
        _line("Loss terms, weighted", metric_regex=names.LOSS_TERMS, log_y=True),
    ]
    if names.GRADIENT_SHARES in logged:
        title = "Share of each term in the gradient"
        lines.append(_line(title, metric_regex=names.GRADIENT_SHARES))
    costs = [
        wr.ScatterPlot(
            title=f"{quality} against {title}",
            x=wr.SummaryMetric(name),
            y=wr.SummaryMetric(quality),
            legend_template="${run:displayName}",
        )
        for name, title in names.COST.items()
        for quality in headlines("test/")
    ]
    return [
        wr.H1("Curves"),
        wr.P("Lines are means over seeds; bands span the lowest to the highest seed."),
        _grid(scope, lines, columns=2, height=9, finished=False),
        wr.H1("Cost against quality"),
        wr.P(
            "A point is a run. Time and memory compare only on the same kind of machine, and do "
            "not include the teacher of a student."
        ),
        _grid(scope, costs, columns=2, height=8),
    ]


def _examples(scope: Scope, logged: Collection[str]) -> list[Any]:
    galleries = wr.MediaBrowser(
        title="Random captions with their best images, for each run",
        media_keys=[names.GALLERY],
        num_columns=2,
    )
    similarities = wr.MediaBrowser(
        title="Similarities to images of the described identity and of others, for each run",
        media_keys=[names.SIMILARITIES],
        num_columns=3,
    )
    return [
        wr.H1("Best and worst queries"),
        wr.P(
            "The best hits and worst misses of each run, and the same random queries for all. "
            "Images are logged of synthetic people only, unless a run was configured otherwise."
        ),
        _grid(scope, [wr.WeavePanelSummaryTable(table_name=names.QUERIES)], columns=1, height=18),
        *([_grid(scope, [galleries], columns=1, height=18)] if names.GALLERY in logged else []),
        wr.H1("Similarities"),
        wr.P("The less the two histograms of a run overlap, the better it separates identities."),
        _grid(scope, [similarities], columns=1, height=14),
    ]


def _published(scope: Scope, published: Sequence[Published]) -> list[Any]:
    if not published:
        return [
            wr.P(
                f"There are no published results on {scope.dataset}. Those on other data sets do "
                "not compare with these runs and are not shown."
            )
        ]
    head, rows = published_table(published)
    return [
        wr.P(
            "Test split, in percent, as in the source named; a dash if it reports no such metric. "
            "Sources do not always say which split chose the checkpoint, nor which mAP it is."
        ),
        wr.MarkdownBlock(markdown(head, rows, left=4, right=1)),
    ]


def _line(title: str, **settings: Any) -> wr.LinePlot:
    return wr.LinePlot(
        title=title,
        x=names.STEP,
        title_x="optimizer steps",
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=_MAX_METHODS,
        **settings,
    )


def _grid(
    scope: Scope, panels: Sequence[Any], *, columns: int, height: int = 7, finished: bool = True
) -> wr.PanelGrid:
    """Lay panels out in rows."""
    width = _GRID_WIDTH // columns
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        panel.layout = wr.Layout(x=column * width, y=row * height, w=width, h=height)
    return wr.PanelGrid(runsets=[scope.runs(finished=finished)], panels=list(panels))
