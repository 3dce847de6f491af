"""Notice what a case reads or writes outside of its own folder, starts or connects to."""

import os
import sys
from pathlib import Path
from typing import Any

_CHANGING = {  # which arguments are changed
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.link": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "shutil.rmtree": (0,),
}
_STARTING = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_HARMLESS = ("/dev/null", "/dev/shm/", "/dev/tty", "/proc/self/")  # noqa: S108 -- compared only
_MODULES = ("os", "posix", "subprocess", "builtins", "sys", "shutil")


def watch(inside: Path, outside: Path, noticed: list[str]) -> None:
    """Note from now on, for the life of this process, what leaves a folder.

    Args:
        inside: May be changed; all else may only be read.
        outside: May not even be read.
        noticed: Gets a line for each.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)):
                check(os.fsdecode(path), "writes" if flags & _FLAGS else "reads")
        elif event in _CHANGING:
            for position in _CHANGING[event]:
                path = arguments[position]
                if isinstance(path, (str, bytes)):
                    check(os.fsdecode(path), f"writes ({event})")
        elif event in _STARTING:
            command = str(arguments)
            is_local = event == "socket.connect" and isinstance(arguments[1], str)
            if not is_local and "'git'" not in command:
                noticed.append(f"starts or connects: {event} {command[:200]}")
        elif event == "pickle.find_class" and arguments[0] in _MODULES:
            noticed.append(f"unpickles {arguments[0]}.{arguments[1]}")

    def check(path: str, verb: str) -> None:
        if path.startswith(_HARMLESS):
            return
        folder, name = os.path.split(path)
        follows = verb in ("reads", "writes")  # other calls change the link itself
        real = os.path.realpath(path) if follows else f"{os.path.realpath(folder)}/{name}"
        is_own = _is_below(real, inside) and not _is_below(real, outside)
        if verb == "reads":
            if _is_below(real, outside):
                noticed.append(f"reads {path}")
        elif not is_own and not real.endswith(".pyc") and "__pycache__" not in real:
            noticed.append(f"{verb} {path}")

    sys.addaudithook(hook)


def _is_below(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}/")
