"""The command `tireid fetch`."""

import argparse
import sys
from typing import Any

from tireid.cli.arguments import Parser
from tireid.console import complain, say


def main() -> None:
    """Run `tireid fetch`; the exit code is 1 if something is missing afterwards."""
    arguments = _parse()
    cfg = _composed(arguments.overrides)
    from tireid.inference import fetching  # late: the help needs no torch

    try:
        sources = fetching.hub_sources(cfg)
        missing = [source for source in sources if not fetching.is_cached(source)]
    except ValueError as error:
        complain(str(error))
        sys.exit(1)
    if not sources:
        say("nothing to fetch: this config needs nothing of the model hub")
        return
    say(f"cache: {fetching.cache_folder()}, below HF_HOME; set it alike where you train")
    for source in sources:
        state = "missing" if source in missing else "there"
        say(f"{state:<8} {fetching.described(source)}")
    if arguments.list:
        sys.exit(1 if missing else 0)
    failed = fetching.fetch_all(missing, lambda source: say(f"fetched  {source.name}"))
    if failed:
        complain("; ".join(f"{source.name}: {why}" for source, why in failed.items()))
        sys.exit(1)


def _composed(overrides: list[str]) -> Any:
    import hydra

    from tireid.cli.mistyped import MISTAKES, explain_mistake
    from tireid.files import conf_dir

    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        try:
            return hydra.compose("train", overrides)
        except MISTAKES as error:
            complain(explain_mistake(error, "train", overrides))
            sys.exit(1)


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid fetch",
        description="Download the weights and tokenizers that a training with these settings needs "
        "into the cache of the model hub, for machines without a network.",
        epilog="Exit code: 0 if all is there, 1 if not.",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="SETTING",
        help="settings as of tireid train, such as experiment=lgur",
    )
    parser.add_argument("--list", action="store_true", help="show what is there; download nothing")
    return parser.parse()
