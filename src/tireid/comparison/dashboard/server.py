"""The side of the server: the key, the charts it keeps, the report it has."""

import os
from dataclasses import dataclass
from typing import cast

import wandb
import wandb_workspaces.reports.v2.interface as wr
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from tireid.comparison.dashboard.presets import Preset

# What the client raises when the server refuses or cannot be reached.
FAILURES = (wandb.Error, WandbApiFailedError)
_TAKEN = 409
_OFFLINE = ("offline", "dryrun", "disabled")


@dataclass(frozen=True, slots=True)
class Saved:
    """A report on the server.

    Attributes:
        url: Its address.
        created: Whether it is new there.
    """

    url: str
    created: bool


def log_in() -> None:
    """Take the key that this machine has for wandb; never ask for one.

    Raises:
        PermissionError: If it has none, or wandb is kept off the network.
    """
    mode = os.environ.get("WANDB_MODE", "")
    if mode in _OFFLINE:
        raise PermissionError(
            f"WANDB_MODE={mode}: expected online or nothing, for the report lies on the server; "
            "--dry-run FILE needs none"
        )
    if not wandb.login(prompt=False, verify=False):
        raise PermissionError(
            "expected a key for Weights & Biases, got none: run `wandb login` once, or set "
            "WANDB_API_KEY; --dry-run FILE needs no key"
        )


def default_entity() -> str:
    """Return the user or team that the key's runs go to.

    Raises:
        ValueError: If the account has none.
    """
    entity = wandb.Api().default_entity
    if not entity:
        raise ValueError("expected a user or team that owns the project: say --entity NAME")
    return entity


def keep_preset(entity: str, preset: Preset) -> None:
    """Make the server keep a chart, if it does not have it.

    Raises:
        FAILURES: If it refuses.
    """
    try:
        wandb.Api().create_custom_chart(
            entity=entity,
            name=preset.name,
            display_name=preset.title,
            spec_type="vega2",
            access="private",
            spec=preset.spec,
        )
    except FAILURES as error:
        if not _is_there(error):
            raise


def _is_there(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "http_status", None)
    return status == _TAKEN or "already exists" in str(error)


def find(entity: str, project: str, title: str) -> str | None:
    """Return the address of the project's report of that title; None if there is none.

    Raises:
        ValueError: If there are several, or no such project.
    """
    reports = wandb.Api().reports(f"{entity}/{project}")
    found = [report.url for report in reports if report.display_name == title]
    if len(found) > 1:
        raise ValueError(
            f"expected one report {title!r}, got {len(found)}: say which with --url: "
            + " ".join(map(str, found))
        )
    return found[0] if found else None


def save(report: wr.Report, url: str | None) -> Saved:
    """Create the report, or put its content into the one at `url`.

    There the title and the comments stay as they are.

    Raises:
        ValueError: If there is no report at `url`, or it is another project's.
    """
    if url is None:
        return Saved(_address(report.save()), created=True)
    try:
        kept = cast(wr.Report, wr.Report.from_url(url))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{url}: expected the address of a report that this key may read, "
            "https://.../<entity>/<project>/reports/<title>--<id>"
        ) from error
    if (kept.entity, kept.project) != (report.entity, report.project):
        raise ValueError(
            f"{url}: expected a report of {report.entity}/{report.project}, "
            f"got one of {kept.entity}/{kept.project}"
        )
    kept.blocks = report.blocks
    kept.description = report.description
    kept.width = report.width
    return Saved(_address(kept.save()), created=False)


def _address(report: wr.Report) -> str:
    return report.url.rstrip("=")  # the id's padding, which pages do without
