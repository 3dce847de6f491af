"""The scope of a report: which runs it compares, and which of them are seeds of one method."""

import re
from dataclasses import dataclass

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2.interface as wr

from tireid.comparison.dashboard.names import METHOD
from tireid.metrics.names import compared, headlines

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
    by: tuple[str, ...] = METHOD

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
