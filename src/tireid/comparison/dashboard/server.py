"""The server of W&B: login, stored charts and reports; the private interfaces of its clients."""

import copy
import json
import os
from typing import Any, cast

import wandb
import wandb_workspaces.reports.v2.interface as wr
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from tireid.comparison.dashboard.charts import Chart

# Raised by the client if the server refuses or cannot be reached.
FAILURES = (wandb.Error, WandbApiFailedError)
_CONFLICT = 409
_NO_NETWORK = ("offline", "dryrun", "disabled")


def log_in() -> None:
    """Log in with the API key of this machine, without a prompt.

    Raises:
        PermissionError: If there is no key, or `WANDB_MODE` forbids the network.
    """
    mode = os.environ.get("WANDB_MODE", "")
    if mode in _NO_NETWORK:
        raise PermissionError(
            f"WANDB_MODE={mode}: expected online or nothing, because the report is on the server; "
            "--dry-run FILE works offline"
        )
    if not wandb.login(prompt=False, verify=False):
        raise PermissionError(
            "expected an API key for Weights & Biases, got none: run `wandb login` once, or set "
            "WANDB_API_KEY; --dry-run FILE needs no key"
        )


def default_entity() -> str:
    """Return the default user or team of the account.

    Raises:
        ValueError: If it has none.
    """
    entity = wandb.Api().default_entity
    if not entity:
        raise ValueError("expected a user or team that owns the project: say --entity NAME")
    return entity


def store_chart(entity: str, chart: Chart) -> None:
    """Store a chart on the server, unless it is there.

    Raises:
        FAILURES: If the server refuses.
    """
    try:
        wandb.Api().create_custom_chart(
            entity=entity,
            name=chart.name,
            display_name=chart.title,
            spec_type="vega2",
            access="private",
            spec=chart.spec,
        )
    except FAILURES as error:
        status = getattr(getattr(error, "response", None), "http_status", None)
        if status != _CONFLICT and "already exists" not in str(error):
            raise


def find_report(entity: str, project: str, title: str) -> str | None:
    """Return the address of the report with a title; None if there is none.

    Raises:
        ValueError: If there are several, or the project does not exist.
    """
    reports = wandb.Api().reports(f"{entity}/{project}")
    urls = [report.url for report in reports if report.display_name == title]
    if len(urls) > 1:
        raise ValueError(
            f"expected one report {title!r}, got {len(urls)}: say which with --url: "
            + " ".join(map(str, urls))
        )
    return urls[0] if urls else None


def save_report(report: wr.Report, url: str | None) -> str:
    """Create a report, or replace the blocks of the one at `url`, whose title and comments stay.

    Returns:
        The address of the report.

    Raises:
        ValueError: If there is no report at `url`, or it belongs to another project.
    """
    if url is not None:
        try:
            existing = cast(wr.Report, wr.Report.from_url(url))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{url}: expected the address of a report that this key may read, "
                "https://.../<entity>/<project>/reports/<title>--<id>"
            ) from error
        if (existing.entity, existing.project) != (report.entity, report.project):
            raise ValueError(
                f"{url}: expected a report of {report.entity}/{report.project}, "
                f"got one of {existing.entity}/{existing.project}"
            )
        existing.blocks = report.blocks
        existing.description = report.description
        existing.width = report.width
        report = existing
    return report.save().url.rstrip("=")  # without the padding of the id, as pages have it


def request_of(report: wr.Report) -> dict[str, Any]:
    """Return what `save_report` would send, except the number of the project."""
    offline = copy.deepcopy(report)
    for block in offline.blocks:
        if isinstance(block, wr.PanelGrid):
            for runs in block.runsets:
                runs.entity = runs.project = ""
    spec = offline._to_model().spec  # there is no public way to it
    return {
        "entityName": report.entity,
        "projectName": report.project,
        "displayName": report.title,
        "description": report.description,
        "type": "runs",
        "spec": json.loads(spec.model_dump_json(by_alias=True, exclude_none=True)),
    }
