"""The command `tireid new`: write the files of an example of docs/extending.md under another name.

tireid new method gem                   into a checkout of tireid
tireid new method gem --package mypkg   into a package of your own, in this folder
"""

import argparse
import keyword
import re
from pathlib import Path
from typing import NamedTuple

from tireid.cli.arguments import Parser
from tireid.cli.errors import one_message
from tireid.console import say
from tireid.files import write_text

_TEMPLATES = Path(__file__).with_name("templates")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class _Kind(NamedTuple):
    """What can be written.

    Attributes:
        name: Of the example.
        module: Its module.
        words: Other words of the example that hold its name, with `{name}` or `{Name}` for it.
        group: Its group of configs.
        tests: Folder of its test, if it has one.
    """

    name: str
    module: str
    words: dict[str, str]
    group: str
    tests: str | None = None


KINDS = {
    "method": _Kind("gem", "tireid.methods", {"Gem": "{Name}"}, "model", "tests/methods"),
    "loss": _Kind("margin", "tireid.losses", {"MarginLoss": "{Name}Loss"}, "model/alignment"),
    "encoder": _Kind("patch_mlp", "tireid.encoders", {"PatchMlp": "{Name}"}, "image_encoder"),
    "dataset": _Kind(
        "folders",
        "tireid.data",
        {"read_folders": "read_{name}", "name: folders": "name: {name}"},
        "dataset",
    ),
}


def main() -> None:
    """Run `tireid new`."""
    arguments = _parse()
    with one_message():
        for file in new(arguments.kind, arguments.name, arguments.package):
            say(f"written: {file}")
    option = "image_encoder" if arguments.kind == "encoder" else KINDS[arguments.kind].group
    trust = f"--trust {arguments.package} " if arguments.package else ""
    say(f"then: {_path(arguments.package)}tireid train {trust}{option}={arguments.name}")


def _path(package: str | None) -> str:
    """Return what stands before a command so that it finds the files: another tireid may be run."""
    if package is not None:
        return "PYTHONPATH=. "
    is_this = Path("src/tireid").resolve() == Path(__file__).resolve().parents[1]
    return "" if is_this else "PYTHONPATH=src "


def new(kind: str, name: str, package: str | None = None) -> list[Path]:
    """Write the files of an example under another name.

    Args:
        kind: One of `KINDS`.
        name: Of its module and its config.
        package: A package in this folder; None: tireid itself, in a checkout.

    Returns:
        The files.

    Raises:
        ValueError: If a name is none, or this folder is no checkout.
        FileExistsError: If one of the files is there; none is written then.
    """
    for got in (name, package or name):
        if not _NAME.fullmatch(got) or keyword.iskeyword(got):
            raise ValueError(f"expected a name in small letters, such as my_method, got {got!r}")
    if package is None and not Path("src/tireid/methods").is_dir():
        raise ValueError(
            f"{Path.cwd()}: expected a checkout of tireid, got another folder; --package NAME "
            "writes a package of your own"
        )
    files = _files(KINDS[kind], name, package)
    if existing := next((file for file in files if file.exists()), None):
        raise FileExistsError(f"{existing}: expected no such file; choose another name")
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    if package is not None and not (start := Path(package, "__init__.py")).exists():
        write_text(start, '"""Methods and their parts, for tireid."""\n')
    return list(files)


def _files(kind: _Kind, name: str, package: str | None) -> dict[Path, str]:
    """Return the content of each file to write."""
    camel = "".join(word.capitalize() for word in name.split("_"))
    module = package or kind.module
    words = {f"{kind.module}.{kind.name}": f"{module}.{name}"}
    words |= {old: new.format(name=name, Name=camel) for old, new in kind.words.items()}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b")

    def filled(template: str) -> str:
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        return pattern.sub(lambda found: words[found[1]], text)

    code = Path(package) if package else Path("src", *kind.module.split("."))
    conf = Path(package, "conf") if package else Path("conf")
    files = {
        code / f"{name}.py": filled(f"{kind.name}.py"),
        conf / kind.group / f"{name}.yaml": filled(f"{kind.name}.yaml"),
    }
    if kind.tests and package is None:  # it takes fixtures of tireid's tests
        files[Path(kind.tests, f"test_{name}.py")] = filled(f"test_{kind.name}.py")
    return files


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid new",
        description="Write the files of a method, a loss, an encoder or a reader to start from.",
    )
    parser.add_argument("kind", choices=KINDS, help="what to write")
    parser.add_argument("name", help="of its module and of its config: my_method")
    parser.add_argument(
        "--package",
        help="write a package of your own into this folder (default: into a checkout of tireid)",
    )
    return parser.parse()
