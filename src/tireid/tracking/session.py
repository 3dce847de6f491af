"""Detect W&B and its mode: online, offline or disabled."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from tireid.console import say

INSTALL = "pip install -e '.[wandb]'"
_OLD_MODES = {"dryrun": "offline", "run": "online"}  # wandb's earlier words
_LONGEST = {"name": 128, "group": 128, "tags": 64}  # characters that W&B takes


class Mode(NamedTuple):
    """How a run is stored.

    Attributes:
        name: online, offline, shared or disabled.
        reason: Why it is not online; empty if the user asked for this mode.
    """

    name: str
    reason: str = ""


def is_installed() -> bool:
    """Return whether wandb can be imported; a folder of runs called `wandb` does not count."""
    try:
        spec = find_spec("wandb")
    except (ImportError, ValueError):  # its import is blocked
        return False
    return spec is not None and spec.origin is not None


def import_quietly() -> Any:
    """Return the wandb module, which then prints nothing by itself."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def find_mode() -> Mode:
    """Return the mode of a new run, without a prompt and without using the network.

    `WANDB_MODE` decides, then wandb's own settings. Online needs an API key, which is neither shown
    nor stored.
    """
    mode = os.environ.get("WANDB_MODE", "").strip().lower()
    mode = _OLD_MODES.get(mode, mode)
    if mode in ("disabled", "offline"):
        return Mode(mode)
    settings = import_quietly().setup().settings
    mode = mode or _OLD_MODES.get(str(settings.mode), str(settings.mode))
    if mode in ("disabled", "offline"):
        return Mode(mode)
    reason = _login_error(settings)
    return Mode("offline", reason) if reason else Mode(mode)


def fitting(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of `wandb.init`, cut to the lengths that it takes, and say what was cut."""
    cut = {name: _cut(arguments.get(name), longest) for name, longest in _LONGEST.items()}
    shorter = [name for name, value in cut.items() if value != arguments.get(name)]
    if shorter:
        lengths = ", ".join(f"{name} to {_LONGEST[name]} characters" for name in shorter)
        say(f"wandb: cut to what it takes: {lengths}")
    return {**arguments, **cut}


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, list):
        return [_cut(item, longest) for item in value]
    return value[:longest] if isinstance(value, str) else value


def _login_error(settings: Any) -> str:
    """Return why the server cannot be used; empty if there is an API key."""
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib import wbauth

    try:
        # Looks in the environment, in .netrc and in wandb's settings; nothing is sent.
        key = wbauth.authenticate_session(
            host=settings.base_url, source="tireid", prompt=False, update_session=False
        )
    except AuthenticationError:
        return "the API key is malformed"
    return "" if key is not None else "not logged in"


def brief(error: Exception) -> str:
    """Return the first line of an error's message, and of one about settings those that name it."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(line.strip() for line in lines[: 3 if "validation error" in lines[0] else 1])
