"""The help of a command with a config, read from the file of that without composing it."""

import re
from pathlib import Path

from tireid.cli.arguments import TRUST, TRUST_HELP
from tireid.cli.commands import COMMANDS
from tireid.files import conf_dir

_GROUP = re.compile(r"  - (?!override )([\w/]+): (\w+)(?: # (.+))?")
_HIDDEN = "not used"  # begins the comment of a group that its config needs and its user does not
_OPTIONS = f"""\
  --help                show this help and exit
  --cfg job             print the composed config and exit
  {TRUST} PACKAGE       {TRUST_HELP}
  --multirun            run once with each of several values: NAME=A,B
  --config-dir FOLDER   take configs from this folder too
  --hydra-help          show Hydra's other options"""


def command_help(name: str) -> str:
    """Return what `tireid NAME --help` prints.

    Args:
        name: A command with a config.
    """
    folder = Path(conf_dir())
    header, _, rest = (folder / f"{name}.yaml").read_text(encoding="utf-8").partition("defaults:\n")
    lines = rest.partition("\nhydra:\n")[0].splitlines()
    end = next(at for at, line in enumerate(lines) if not re.match(r"  - |  #", line))
    sections = {
        "settings, NAME=VALUE": [f"  {line}" for line in lines[end:] if line],
        "groups, NAME=CHOICE": list(_groups(lines[:end], folder)),
        "options": _OPTIONS.splitlines(),
    }
    about = (
        "\n".join(line[2:] for line in header.splitlines()).removeprefix(COMMANDS[name]).strip("\n")
    )
    shown = "\n\n".join(f"{head}:\n" + "\n".join(body) for head, body in sections.items() if body)
    return (
        f"tireid {name}: {COMMANDS[name]}\n\n{about}\n\n{shown}\n\n"
        f"tireid {name} GROUP=CHOICE --cfg job prints all settings, those of the groups too.\n"
    )


def _groups(lines: list[str], folder: Path) -> list[str]:
    """Return the groups of a config that have several choices, with these and with the default."""
    shown = []
    for line in lines:
        found = _GROUP.fullmatch(line)
        if found is None or (found[3] or "").startswith(_HIDDEN):
            continue
        choices = sorted(file.stem for file in (folder / found[1]).glob("*.yaml"))
        if len(choices) > 1 or (choices and found[2] == "null"):
            shown.append(f"  {found[1]}={found[2]}" + (f"  # {found[3]}" if found[3] else ""))
            shown.append(f"      {', '.join(choices)}")
        for inner in sorted(path for path in (folder / found[1]).glob("*") if path.is_dir()):
            choices = sorted(file.stem for file in inner.glob("*.yaml"))
            shown += [f"  {found[1]}/{inner.name}", f"      {', '.join(choices)}"]
    return shown
