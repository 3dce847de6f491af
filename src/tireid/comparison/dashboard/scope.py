"""Which runs a report compares, and what makes some of them seeds of one method."""

import re
from dataclasses import dataclass

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2.interface as wr

from tireid.comparison.dashboard.names import METHOD
from tireid.metrics.names import compared, headlines

_NAME = re.compile(r"[\w .@+-]+")  # which filters and addresses hold as they are
_MOST_TITLE = 128  # characters, of wandb


@dataclass(frozen=True, slots=True)
class Scope:
    """The runs of a report.

    Attributes:
        entity: User or team that owns the project.
        project: Its name.
        dataset: As runs are tagged; figures on different data do not compare.
        group: Only runs of this group; None: all.
        by: Settings, by dotted name, in which the seeds of one method agree.

    Raises:
        ValueError: If a name has a character that filters or addresses do not hold as it is, or
            the title is too long.
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
        if len(self.title) > _MOST_TITLE:
            raise ValueError(
                f"expected a title of up to {_MOST_TITLE} characters, got {len(self.title)}: "
                f"{self.title!r}; take a shorter group"
            )

    @property
    def title(self) -> str:
        """Of the report; by it the next run finds the report."""
        of = f" in {self.group}" if self.group else ""
        return f"Methods compared on {self.dataset}{of}"

    @property
    def settings(self) -> list[str]:
        """What `by` names, by the names under which runs log it."""
        return [name.replace(".", "/") for name in self.by]

    def runs(self, *, finished: bool = True) -> wr.Runset:
        """Return the runs, the seeds of a method in one group.

        Args:
            finished: Leave out those that are still running or have failed.
        """
        # The data set is a tag too, which a filter finds however settings are named.
        wanted = [expr.Tags().isin([self.dataset]), expr.Metric("JobType") == "train"]
        if self.group:
            wanted.append(expr.Metric("Group") == self.group)
        if finished:
            wanted.append(expr.Metric("State") == "finished")
        return wr.Runset(
            entity=self.entity,
            project=self.project,
            name="finished runs" if finished else "all runs",
            filters=expr.And(*wanted),
            groupby=[f"config.{name}" for name in self.settings],
            pinned_columns=[
                "run:displayName",
                *(f"summary:{name}" for name in (*headlines("val/"), *compared("test/"))),
            ],
        )
