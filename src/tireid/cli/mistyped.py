"""Say what is wrong with an override, and the nearest right one."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tireid.cli.commands import nearest
from tireid.files import conf_dir
from tireid.runs.settings import flatten

MISTAKES = (HydraException, OmegaConfBaseException)
_KEY = re.compile(r"Could not override '(?P<key>[^']+)'")
_AMBIGUOUS = re.compile(r"Ambiguous value for argument '(?P<override>.+)'")
_ADVICE = re.compile(r"^To append .*|^full_key: .*|^object_type=.*", re.MULTILINE)


def explain_mistake(error: Exception, command: str, overrides: Sequence[str]) -> str:
    """Return one message for an override that Hydra refuses.

    Args:
        error: Hydra's.
        command: Whose config is composed.
        overrides: Those of the command line.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        hint = nearest(choice, error.options)
        meant = f"; did you mean {group}={hint}?" if hint else ""
        return (
            f"Could not find '{error.missing_cfg_file}'{meant}\n"
            f"{group}: expected one of {', '.join(error.options)}"
        )
    if isinstance(error, OverrideParseException):
        name, equals, _ = error.override.partition("=")
        if not equals or not name:
            return f"{error.override}: expected NAME=VALUE, got no {'name' if equals else '='}"
        return (
            f"{error.override}: expected NAME=VALUE, the value in quotes if it holds signs such as "
            f"= [ {{ ( # ' or letters beyond English; type {_quoted(error.override)}"
        )
    if ambiguous := _AMBIGUOUS.search(str(error)):
        word = ambiguous["override"]
        return (
            f"{word}: expected one value, got several; type {_quoted(word)} for one with commas, "
            "[A,B] for a list, or --multirun to train with each"
        )
    text = _ADVICE.sub("", str(error)).strip()
    found = _KEY.search(text)
    if found is None:
        return re.sub(r"\n+", "\n", text)
    key = found["key"].partition("@")[0]
    others = [text for text in overrides if not text.lstrip("+~").startswith(f"{found['key']}=")]
    hint = _nearest_key(key, _known(command, others))
    meant = f"; did you mean {hint}?" if hint else f"; tireid {command} --help lists them"
    if choices := _choices_with(key):
        meant = f"; these have it: {', '.join(choices)}"
    return f"{key}: expected a setting of tireid {command}, got no such name{meant}"


def _choices_with(key: str) -> list[str]:
    """Return the choices of a setting's group, as `dataset=custom`, that have the setting."""
    group, _, name = key.rpartition(".")
    files = sorted(Path(conf_dir(), group).glob("*.yaml")) if group else []
    line = re.compile(rf"^{re.escape(name)}:", re.MULTILINE)
    return [f"{group}={f.stem}" for f in files if line.search(f.read_text(encoding="utf-8"))]


def _quoted(override: str) -> str:
    """Return an override as it is typed in a shell, its value in quotes."""
    name, _, value = override.partition("=")
    escaped = value.replace('"', '\\"')
    return shlex.quote(f'{name}="{escaped}"')


def _known(command: str, overrides: Sequence[str]) -> list[str]:
    """Return the names of a command's groups and settings, at all levels."""
    try:
        cfg = compose(command, list(overrides))
    except MISTAKES:  # another is wrong too
        cfg = compose(command)
    names = dict.fromkeys(flatten(cast(dict[str, Any], OmegaConf.to_container(cfg))))
    for name in list(names):
        parts = name.split(".")
        names |= dict.fromkeys(".".join(parts[:length]) for length in range(1, len(parts)))
    folder = Path(conf_dir())
    groups = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir()}
    return [*groups, *names]


def _nearest_key(key: str, known: Sequence[str]) -> str | None:
    """Return the known name of the same group that is nearest to one, or of the same end."""
    group, _, end = key.rpartition(".")
    ends = {name.rpartition(".")[2]: name for name in reversed(known)}
    inside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == group}
    if hint := nearest(end, inside):
        return inside[hint]
    near = end if group else nearest(end, ends)
    return ends.get(near or "") or nearest(key, [] if inside else known)
