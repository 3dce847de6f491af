"""Whether Weights & Biases can be had here, and how: online, offline or not at all."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from tireid.tracking.offline import OfflineRun, read_offline_runs

INSTALL = "pip install 'tireid[wandb]'"
_MODES = {"dryrun": "offline", "run": "online"}  # older words for the same


class Mode(NamedTuple):
    """How a run is kept.

    Attributes:
        name: online, offline, shared or disabled.
        reason: Why it is not online, in words; empty where the user asked for it.
    """

    name: str
    reason: str = ""


def is_installed() -> bool:
    """Return whether there is a wandb to import; a folder of runs called `wandb` is none."""
    try:
        found = find_spec("wandb")
    except (ImportError, ValueError):  # something stands in its way
        return False
    return found is not None and found.origin is not None


def find_mode() -> Mode:
    """Return how a run is to be kept, without asking anybody anything and without network.

    `WANDB_MODE` decides, then wandb's own settings; online only where there is an API key. The
    key is neither shown nor kept.
    """
    wanted = os.environ.get("WANDB_MODE", "").strip().lower()
    wanted = _MODES.get(wanted, wanted)
    if wanted in ("disabled", "offline"):
        return Mode(wanted)
    wandb = import_quietly()
    settings = wandb.setup().settings
    wanted = wanted or _MODES.get(str(settings.mode), str(settings.mode))
    if wanted in ("disabled", "offline"):
        return Mode(wanted)
    reason = _missing_login(settings)
    return Mode("offline", reason) if reason else Mode(wanted)


def import_quietly() -> Any:
    """Return wandb; what it says by itself goes into its log files, if it was not imported yet."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def say(line: str) -> None:
    """Print a line as it is."""
    Console(highlight=False, soft_wrap=True).print(line, markup=False)


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _missing_login(settings: Any) -> str:
    """Return why the server cannot be used; empty: there is a key."""
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib import wbauth

    try:
        # The key of the environment, of .netrc or of wandb's own settings; nothing is sent.
        known = wbauth.authenticate_session(
            host=settings.base_url, source="tireid", prompt=False, update_session=False
        )
    except AuthenticationError:
        return "the API key has not the form of one"
    return "" if known is not None else "not logged in"


STEP = "trainer/global_step"


BEST = "val/"  # what the metrics begin with of which the best stands for the run


_SETTINGS = {
    "silent": True,
    "console": "off",
    "disable_code": True,
    "disable_git": True,  # the commit is in the config
    "finish_timeout_raises": True,
}


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that has begun.

    Attributes:
        run: As wandb's client knows it.
        mode: How it is kept.
        best: By metric, the best value of its earlier parts.
        last_step: Of wandb's own count in an earlier part that lies here; None: there is none.
    """

    run: Any
    mode: Mode
    best: dict[str, float]
    last_step: int | None


def begin(folder: Path, timeouts: Mapping[str, float | int], **arguments: Any) -> Begun | None:
    """Begin a run, or continue one; None where none is to be logged.

    Args:
        folder: The run folder.
        timeouts: Settings of wandb, in seconds.
        **arguments: Others of `wandb.init`.
    """
    if not is_installed() and os.environ.get("WANDB_MODE") != "disabled":
        if arguments["job_type"] == "train":  # the teacher's needs no line of its own
            say(f"wandb is not installed, the run is logged to files only; {INSTALL}")
        return None
    mode = find_mode()
    if mode.name == "disabled":
        return None
    folder.mkdir(parents=True, exist_ok=True)
    run = None if mode.name == "offline" else _reached(folder, mode.name, timeouts, arguments)
    if run is not None:
        _define_metrics(run)
        return Begun(run, mode, _best_of(dict(run.summary)), None)
    if mode.name != "offline":
        mode = Mode("offline", "the server was not reached")
    earlier = _earlier(folder, arguments.get("id"))
    run = _init(folder, mode.name, timeouts, arguments)
    _define_metrics(run)
    if earlier is None:
        return Begun(run, mode, {}, None)
    last = max((int(row["_step"]) for row in earlier.history), default=None)
    return Begun(run, mode, _best_of(earlier.summary), last)


def _reached(
    folder: Path, mode: str, timeouts: Mapping[str, float | int], arguments: Mapping[str, Any]
) -> Any:
    """Return the run on the server; None, and nothing left of it, where that is not reached."""
    known = _parts(folder)
    try:
        return _init(folder, mode, timeouts, arguments)
    except Exception as error:
        say(f"wandb: {first_line(error)}; the run is kept offline")
        import_quietly().teardown()  # wandb's own process still holds the run's id
        for empty in _parts(folder) - known:
            shutil.rmtree(empty, ignore_errors=True)
        return None


def _define_metrics(run: Any) -> None:
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    run.define_metric(f"{BEST}*", step_metric=STEP, step_sync=True, summary="none")


def _init(
    folder: Path, mode: str, timeouts: Mapping[str, float | int], arguments: Mapping[str, Any]
) -> Any:
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # or it would send something
    wandb = import_quietly()
    return wandb.init(
        **arguments,
        mode=mode,
        dir=str(folder.absolute()),
        reinit="create_new",
        settings=wandb.Settings(**_SETTINGS, **timeouts),
    )


def _parts(folder: Path) -> set[Path]:
    """Return the folders of what was begun online."""
    return {path for path in (folder / "wandb").glob("run-*") if path.is_dir()}


def _earlier(folder: Path, identity: str | None) -> OfflineRun | None:
    """Return what lies here of a run that is to be continued."""
    try:
        runs = read_offline_runs(folder)
    except (FileNotFoundError, ValueError):
        return None
    return next((run for run in runs if run.id == identity), None)


def _best_of(summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in summary.items()
        if name.startswith(BEST) and isinstance(value, int | float)
    }
