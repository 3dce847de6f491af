"""The whole report, and what of it would be sent."""

import copy
import json
import warnings
from collections.abc import Sequence
from typing import Any

import wandb_workspaces.reports.v2.interface as wr
from wandb_workspaces.reports.v2.internal import PanelGrid, ReportViewspec, UnknownPanel

from tireid.comparison.dashboard import sections
from tireid.comparison.dashboard.presets import Preset, seeds_and_references
from tireid.comparison.dashboard.scope import Scope
from tireid.comparison.published import Published
from tireid.metrics.names import headlines


def presets_of(published: Sequence[Published]) -> list[Preset]:
    """Return the charts that the server must keep before the report shows them.

    Args:
        published: Printed figures on the data set of the report.
    """
    return [seeds_and_references(metric, published) for metric in headlines("test/")]


def build(scope: Scope, published: Sequence[Published], presets: Sequence[Preset]) -> wr.Report:
    """Build the report; nothing is sent or asked.

    Args:
        scope: The runs it compares.
        published: Printed figures on the same data set.
        presets: Of `presets_of`, those that the server keeps; the report goes without the others.
    """
    blocks = [
        *sections.introduction(scope),
        *sections.metrics(scope, presets),
        *sections.curves(scope),
        *sections.cost(scope),
        *sections.queries(scope),
        *sections.similarities(scope),
        *sections.published_figures(scope, published),
        *sections.limits(),
    ]
    return wr.Report(
        entity=scope.entity,
        project=scope.project,
        title=scope.title,
        description="Made by tireid dashboard, which brings it up to date at the same address.",
        width="fluid",
        blocks=blocks,
    )


def content(report: wr.Report) -> dict[str, Any]:
    """Return what saving the report would send, read back once by the client's own models.

    The client asks the server for the number of each run set's project; that alone is left out.

    Raises:
        ValueError: If the client would not understand the report if it loaded it.
    """
    offline = copy.deepcopy(report)
    for block in offline.blocks:
        if isinstance(block, wr.PanelGrid):
            for runs in block.runsets:
                runs.entity = runs.project = ""
    model = offline._to_model()  # the client shows it in no other way
    spec = model.spec.model_dump_json(by_alias=True, exclude_none=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read = ReportViewspec.model_validate({"spec": spec}).spec
        except (UserWarning, ValueError) as error:
            raise ValueError(f"expected a report that can be loaded, got {error}") from error
    for block in read.blocks:
        for panel in _panels(block):
            if isinstance(panel, UnknownPanel):
                raise ValueError(f"expected panels that can be loaded, got {panel!r}")
    return {
        "entityName": report.entity,
        "projectName": report.project,
        "displayName": report.title,
        "description": report.description,
        "type": "runs",
        "spec": json.loads(spec),
    }


def _panels(block: Any) -> list[Any]:
    if not isinstance(block, PanelGrid):
        return []
    return block.metadata.panel_bank_section_config.panels
