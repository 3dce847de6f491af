"""The sections of the report, one function each."""

from collections.abc import Sequence
from typing import Any

import wandb_workspaces.reports.v2.interface as wr

from tireid.comparison.dashboard import names
from tireid.comparison.dashboard.presets import Preset
from tireid.comparison.dashboard.scope import Scope
from tireid.comparison.published import Published, published_metrics
from tireid.metrics.names import compared, headlines

_WIDTH = 24  # of a grid, in wandb's units
_MOST = 50  # methods in a panel


def introduction(scope: Scope) -> list[Any]:
    """What is compared, how a method's seeds are told, and which split chose what."""
    group = f"group `{scope.group}`" if scope.group else "all groups"
    settings = ", ".join(f"`{name}`" for name in scope.settings)
    return [
        wr.MarkdownBlock(
            f"Runs on **{scope.dataset}**, {group}. Runs that agree in {settings} count "
            "as the seeds of one method: give variants of "
            "a method labels of their own.\n\n"
            "**What chose what.** Settings and checkpoints are chosen on the validation split "
            "(`selection: val` in a run's config; a run with `selection: test` does not compare). "
            "`test/...` is measured once, with the checkpoint so chosen; `val/...` is the best of "
            "a run, each metric by itself. All metrics are text to image, in percent.\n\n"
            "Compare only runs that were trained and tested on the same files: put them in one "
            "group."
        ),
        wr.TableOfContents(),
    ]


def metrics(scope: Scope, presets: Sequence[Preset]) -> list[Any]:
    """Metrics by method: mean over seeds and deviation; each seed, beside the printed figures."""
    bars = [_bar(name) for name in (*headlines("val/"), *compared("test/"))]
    blocks = [
        wr.H1("Metrics by method"),
        wr.P("Bars are means over the seeds of a method, with their standard deviation."),
        _grid(scope, bars, columns=3),
    ]
    if presets:
        charts = [preset.panel(scope.entity) for preset in presets]
        blocks += [
            wr.H2("Each seed, and published figures as reference lines"),
            wr.P(f"A column is what agrees in {', '.join(names.METHOD)}."),
            _grid(scope, charts, columns=1, height=14),
        ]
    return blocks


def curves(scope: Scope) -> list[Any]:
    """Validation metrics and loss terms over steps: mean over seeds, with their range."""
    panels = [
        *(_line(f"{name}, %", y=[name]) for name in headlines("val/")),
        _line("Loss, sum of the weighted terms", y=[names.LOSS], log_y=True),
        _line("Loss terms, weighted", metric_regex=names.LOSS_TERMS, log_y=True),
        _line("Share of each term in the gradient", metric_regex=names.GRADIENT_SHARES),
    ]
    return [
        wr.H1("Curves"),
        wr.P("Lines are means over seeds, bands reach from the lowest to the highest seed."),
        _grid(scope, panels, columns=2, height=9, finished=False),
    ]


def cost(scope: Scope) -> list[Any]:
    """What a method costs against what it finds: a point is a run."""
    panels = [
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
        wr.H1("Cost against quality"),
        wr.P(
            "Seconds and memory compare only between runs on the same kind of machine. What a "
            "teacher cost is not in its student's point."
        ),
        _grid(scope, panels, columns=2, height=8),
    ]


def queries(scope: Scope) -> list[Any]:
    """What was found: the best and the worst queries of each run, and galleries."""
    galleries = wr.MediaBrowser(
        title="Random captions with their best images, of each run",
        media_keys=[names.GALLERY],
        num_columns=2,
    )
    return [
        wr.H1("Best and worst queries"),
        wr.P(
            "Of each run: its best hits, its worst misses, and queries drawn at random, the same "
            "for all. Pictures are logged of made people only, unless a run was told otherwise."
        ),
        _grid(scope, [wr.WeavePanelSummaryTable(table_name=names.QUERIES)], columns=1, height=18),
        _grid(scope, [galleries], columns=1, height=18),
    ]


def similarities(scope: Scope) -> list[Any]:
    """How far apart the right and the wrong images lie."""
    spread = wr.MediaBrowser(
        title="Similarities to images of the described person, and to all others, of each run",
        media_keys=[names.SIMILARITIES],
        num_columns=3,
    )
    return [
        wr.H1("Similarities"),
        wr.P("The less the two histograms of a run overlap, the better it tells people apart."),
        _grid(scope, [spread], columns=1, height=14),
    ]


def published_figures(scope: Scope, published: Sequence[Published]) -> list[Any]:
    """The printed figures on this data set, each with its source."""
    head = [wr.H1("Published figures")]
    if not published:
        return [
            *head,
            wr.P(
                f"There is no published figure on {scope.dataset}. Those on other data sets do not "
                "compare with these runs and are not drawn."
            ),
        ]
    metrics = published_metrics(published)
    columns = ("method", "year", "image encoder", "text encoder", *metrics, "source")
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    for row in published:
        values = [f"{row.metrics[name]:.2f}" if name in row.metrics else "-" for name in metrics]
        cells = [row.method, str(row.year), row.image_encoder, row.text_encoder, *values]
        lines.append(" | ".join(_cell(cell) for cell in (*cells, row.source)))
    return [
        *head,
        wr.P(
            "Test split, in percent, as printed in the source named; - where it is not. Which "
            "split chose the checkpoint, and which mAP was computed, the sources do not always say."
        ),
        wr.MarkdownBlock("\n".join(f"| {line} |" for line in lines)),
    ]


def limits() -> list[Any]:
    """What these figures must not be used for."""
    return [
        wr.H1("Limits of use"),
        wr.MarkdownBlock(
            "For research on retrieval. Finding people by a description is surveillance: it needs "
            "a lawful basis and the consent of those who are shown, and the data sets' terms. "
            "The figures are of one data set each and do not tell how a model does on other "
            "people, cameras or captions; figures on the embedded, made data say nothing of "
            "photographs. A rank is a suggestion, not an identification."
        ),
    ]


def _grid(
    scope: Scope, panels: Sequence[Any], *, columns: int, height: int = 7, finished: bool = True
) -> wr.PanelGrid:
    """Lay panels out in rows."""
    width = _WIDTH // columns
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        panel.layout = wr.Layout(x=column * width, y=row * height, w=width, h=height)
    return wr.PanelGrid(runsets=[scope.runs(finished=finished)], panels=list(panels))


def _bar(name: str) -> wr.BarPlot:
    return wr.BarPlot(
        title=f"{name}, %",
        metrics=[name],
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=_MOST * 10,
        max_bars_to_show=_MOST,
    )


def _line(title: str, **settings: Any) -> wr.LinePlot:
    return wr.LinePlot(
        title=title,
        x=names.STEP,
        title_x="optimiser steps",
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=_MOST,
        **settings,
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
