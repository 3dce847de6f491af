"""Packages beside this one that a saved config may name: plug-ins, and those the user trusts."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeGuard

from tireid.files import write_text

GROUP = "tireid.plugins"  # entry points of installed packages; the package of each is trusted
_OWN = __name__.partition(".")[0]
_NAME = re.compile(r"[A-Za-z_]\w*")
_given: ContextVar[frozenset[str]] = ContextVar("_given", default=frozenset())


def trust_file() -> Path:
    """Return the file that remembers what the user trusts, a package a line.

    Raises:
        FileNotFoundError: If there is no home folder.
    """
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError as error:
        raise FileNotFoundError(
            f"expected a home folder to remember trust in, got none ({error}); set HOME or "
            "XDG_CONFIG_HOME in the environment"
        ) from error
    return Path(home) / _OWN / "trusted.txt"


def trusted() -> frozenset[str]:
    """Return the packages whose classes may be built: plug-ins, remembered and given ones."""
    plugins = {entry.module.partition(".")[0] for entry in entry_points(group=GROUP)}
    return _given.get() | _remembered() | plugins


def remember(packages: Iterable[str]) -> Path:
    """Trust packages from now on, in all commands of this user.

    Returns:
        The file that remembers them.

    Raises:
        ValueError: If one is no package that can be trusted; names it.
        OSError: If the file cannot be written.
    """
    file, names = trust_file(), _remembered() | _checked(packages)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "".join(f"{name}\n" for name in sorted(names)))
    return file


@contextmanager
def trusting(packages: Iterable[str]) -> Iterator[None]:
    """Trust packages in the block.

    Raises:
        ValueError: If one is no package that can be trusted; names it.
    """
    token = _given.set(_given.get() | _checked(packages))
    try:
        yield
    finally:
        _given.reset(token)


def package_of(target: Any) -> str | None:
    """Return the package of a dotted name if it is not this one, else None."""
    package = target.partition(".")[0] if isinstance(target, str) else _OWN
    return None if package == _OWN or not _NAME.fullmatch(package) else package


def can_be_trusted(package: str | None) -> TypeGuard[str]:
    """Return whether this names a package beside this one, and not one of Python itself.

    Python's own classes start programs.
    """
    is_name = package is not None and bool(_NAME.fullmatch(package))
    return is_name and package != _OWN and package not in sys.stdlib_module_names


def config_folders() -> dict[str, Path]:
    """Return the folders `conf/` of trusted packages, by package; nothing is imported."""
    folders = {}
    for package in sorted(trusted()):
        spec = find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            if (Path(place) / "conf").is_dir():
                folders[package] = Path(place) / "conf"
    return folders


def _remembered() -> frozenset[str]:
    try:
        words = trust_file().read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return frozenset()
    return frozenset(filter(_NAME.fullmatch, words))


def _checked(packages: Iterable[str]) -> frozenset[str]:
    names = frozenset([packages] if isinstance(packages, str) else packages)
    for name in names:
        if not can_be_trusted(name):
            raise ValueError(f"trust: expected the name of a package such as mypkg, got {name!r}")
    return names
