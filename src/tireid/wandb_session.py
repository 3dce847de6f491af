"""Whether Weights & Biases can be had here, and how: online, offline or not at all."""

import os
from importlib.util import find_spec
from typing import Any, NamedTuple

from rich.console import Console

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
