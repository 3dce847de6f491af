"""The command `tireid index`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tireid.cli.arguments import Parser
from tireid.cli.errors import one_message
from tireid.console import (
    complain,
    say,
    show_warnings_in_one_line,
    silence_expected_warnings,
)


def main() -> None:
    """Run `tireid index`."""
    arguments = _parse()
    from tireid.search.indexing import (  # late: the help needs no torch
        FAILURES_FILE,
        IndexOptions,
    )
    from tireid.search.processes import build_index_together
    from tireid.search.sources import Found
    from tireid.search.splits import run_of_split, split_images

    silence_expected_warnings()
    show_warnings_in_one_line()
    folder: Path = arguments.out
    options = IndexOptions(
        model=arguments.model,
        storage=arguments.storage,
        name_pattern=arguments.name_pattern,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        device=arguments.device,
        runtime=arguments.runtime,
        engine=arguments.engine,
        follow_links=arguments.follow_links,
        detect=arguments.detect,
        every=arguments.every,
        prune=arguments.prune,
    )
    try:
        with one_message():
            split: list[Found] = []
            if arguments.split:
                options = replace(options, model=str(run_of_split(arguments.model, folder)))
                split = split_images(options.model, arguments.split)
            report = build_index_together(arguments.sources, folder, options, split=split)
    except KeyboardInterrupt:
        complain("stopped; the same command goes on from here")
        sys.exit(130)
    if report is None:  # the first process says it
        return
    say(
        f"{folder}: {report.total:,} images ({report.added:,} added, {report.updated:,} updated, "
        f"{report.removed:,} removed, {report.unchanged:,} unchanged; {report.embedded:,} embedded)"
    )
    if not report.total and not report.failures:
        say(f"expected images in {', '.join(arguments.sources)}, got none", style="yellow")
    if report.scenes:
        say(f"looked for people in {report.scenes:,} images and frames of videos")
    for place, count in report.kept.items():
        say(
            f"{count:,} images are kept though {place} is empty or cannot be listed: is its disk "
            "mounted? --prune removes them",
            style="yellow",
        )
    if report.failures:
        say(f"{len(report.failures):,} files are not in it; reasons: {folder / FAILURES_FILE}")


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid index",
        description=(
            "Index images for `tireid search`. The same command again adds, updates and removes "
            "what has changed; stopped or killed, it goes on where it was."
        ),
    )
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help=(
            "folder, image, video, pattern in quotes, or list (.csv, .jsonl) with a column "
            "`path`; its other columns become fields"
        ),
    )
    parser.add_argument(
        "--out", type=Path, default=Path("gallery"), help="folder of the index (default: gallery)"
    )
    parser.add_argument(
        "--model",
        help="run folder, checkpoint or export, a word in the path of a run, or a CLIP or SigLIP 2 "
        "as openai/clip-vit-base-patch16 (default: that of the index, or the newest run)",
    )
    parser.add_argument(
        "--split", choices=("val", "test"), help="index this split of the model's own data set too"
    )
    parser.add_argument(
        "--storage",
        choices=("float16", "float32", "int8"),
        help="how vectors are kept (default: that of the index, or float16; float32 in Milvus)",
    )
    parser.add_argument(
        "--engine",
        help="embedded, or milvus://HOST:PORT/COLLECTION (default: that of the index, or embedded)",
    )
    parser.add_argument(
        "--name-pattern",
        default="",
        metavar="REGEX",
        help="named groups found in file names become fields: '_c(?P<camera>\\d+)'",
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="images embedded at once (default: 64)"
    )
    parser.add_argument(
        "--workers", type=int, help="processes that read images (default: the cores less one)"
    )
    parser.add_runtime()
    parser.add_argument(
        "--follow-links", action="store_true", help="follow links in folders, wherever they lead"
    )
    parser.add_argument(
        "--detect",
        metavar="NAME",
        help="images are scenes: index the people that hog, dfine, or an object detector of "
        "transformers (hub name or folder) finds in them; needed for videos",
    )
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="between frames of a video (default: 1)"
    )
    parser.add_argument(
        "--prune", action="store_true", help="remove the images of folders that are empty now, too"
    )
    arguments = parser.parse()
    if not arguments.sources and not arguments.split:
        parser.error("expected a SOURCE or --split, got neither")
    return arguments
