"""The report on the server of W&B: login, charts, updates; the private interfaces of its clients.

tireid dashboard --project tireid --group like_for_like
tireid dashboard --entity team --dataset cuhk_pedes
tireid dashboard --dry-run dashboard.json
"""

import copy
import json
import os
from pathlib import Path
from typing import Any, cast

import wandb
import wandb_workspaces.reports.v2.interface as wr
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from tireid.comparison.dashboard.charts import Chart, seed_charts
from tireid.comparison.dashboard.names import OPTIONAL
from tireid.comparison.dashboard.report import Scope, build
from tireid.comparison.published import read_published
from tireid.console import say
from tireid.files import write_json

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


def send(scope: Scope, url: str | None = None) -> str:
    """Create the report of a scope, or update the existing one.

    Args:
        scope: The runs that it compares.
        url: Address of the report to update; None: the project's report with the same title, or a
            new one.

    Returns:
        The address of the report.

    Raises:
        ValueError: If the project or the report at `url` does not exist, or no run has finished.
    """
    url = url or _find_report(scope)
    logged = _check_runs(scope)
    published = read_published(scope.dataset)
    charts = []
    for chart in seed_charts(published):
        try:
            _store_chart(scope.entity, chart)
            charts.append(chart)
        except FAILURES as error:
            why = f"which the server refused: {error}"
            say(f"left out: the chart {chart.title!r}, {why}", style="red")
    report = build(scope, published, charts, logged)
    if url is not None:
        report = _update(url, report)
    saved = report.save().url.rstrip("=")  # without the padding of the id, as pages have it
    say(f"{'updated' if url else 'created'}: {saved}")
    return saved


def _check_runs(scope: Scope) -> list[str]:
    """Check that a report would show something, and return what runs have logged of `OPTIONAL`.

    Raises:
        ValueError: If no run of the scope has finished.
    """
    project = f"{scope.entity}/{scope.project}"
    wanted: dict[str, Any] = {"tags": scope.dataset, "jobType": "train", "state": "finished"}
    wanted |= {"group": scope.group} if scope.group else {}

    def count(**more: Any) -> int:
        return len(wandb.Api().runs(project, filters=wanted | more, per_page=1))

    if count() == 0:
        group = f" in group {scope.group}" if scope.group else ""
        raise ValueError(
            f"{project}: expected finished runs on {scope.dataset}{group}, got none; say another "
            "--dataset or --group, or train with logger=wandb first; --dry-run FILE works without"
        )
    return [name for name, filters in OPTIONAL.items() if count(**filters)]


def _store_chart(entity: str, chart: Chart) -> None:
    """Store a chart on the server, unless it is there."""
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


def _find_report(scope: Scope) -> str | None:
    """Return the address of the report with the title of a scope; None if there is none."""
    reports = wandb.Api().reports(f"{scope.entity}/{scope.project}")
    urls = [report.url for report in reports if report.display_name == scope.title]
    if len(urls) > 1:
        raise ValueError(
            f"expected one report {scope.title!r}, got {len(urls)}: say which with --url: "
            + " ".join(map(str, urls))
        )
    return urls[0] if urls else None


def _update(url: str, report: wr.Report) -> wr.Report:
    """Return the report at an address with the blocks of another; title and comments stay."""
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
    return existing


def write(scope: Scope, path: Path) -> None:
    """Write what would be sent as JSON, without a key or the network.

    Args:
        scope: The runs that it compares.
        path: The file; its folder is created.
    """
    published = read_published(scope.dataset)
    charts = seed_charts(published)
    requests = [
        {"entity": scope.entity, "name": chart.name, "displayName": chart.title, "spec": chart.spec}
        for chart in charts
    ]
    report = request_of(build(scope, published, charts))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"report": report, "charts": requests})
    say(f"written, not sent: {path}: {scope.title!r} for {scope.entity}/{scope.project}")


def request_of(report: wr.Report) -> dict[str, Any]:
    """Return what `send` would send, except the number of the project."""
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
