"""The command `tireid search`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tireid.cli.arguments import Parser
from tireid.cli.errors import one_message
from tireid.console import (
    say,
    show,
    show_warnings_in_one_line,
    silence_expected_warnings,
)

if TYPE_CHECKING:
    from rich.table import Table

    from tireid.search.index import Result


def main() -> None:
    """Run `tireid search`."""
    arguments = _parse()
    silence_expected_warnings()
    show_warnings_in_one_line()
    with one_message():
        queries = _search(arguments)
        _draw(arguments, queries)  # first: the reader of a pipe may leave in the middle of a table
        if arguments.json:
            _print_json(queries)
        else:
            for query, results in queries:
                _print_table(query, results)


def _search(arguments: argparse.Namespace) -> "list[tuple[str, list[Result]]]":
    from tireid.search.index import Index  # late: the help needs no torch

    sentences = _sentences(arguments.sentences)
    image: Path | None = arguments.image
    with Index.open(
        arguments.index,
        model=arguments.model,
        device=arguments.device,
        runtime=arguments.runtime,
    ) as index:
        found = index.search_many(
            sentences or None,
            arguments.k,
            image=image,
            image_weight=arguments.image_weight,
            without=arguments.without,
            where=arguments.where,
        )
    with_image = "" if image is None else f" + {image.name}" if sentences else image.name
    return [
        (f"{query}{with_image}", results)
        for query, results in zip(sentences or [""], found, strict=True)
    ]


def _sentences(words: Sequence[str]) -> list[str]:
    """Return the sentences given, and for `-` the lines of standard input."""
    sentences: list[str] = []
    for word in words:
        lines = sys.stdin.read().splitlines() if word == "-" else [word]
        sentences += [line.strip() for line in lines if line.strip() or word != "-"]
    return sentences


def _print_json(queries: "Sequence[tuple[str, list[Result]]]") -> None:
    import json

    content = [
        {"query": query, "results": [result.as_dict() for result in results]}
        for query, results in queries
    ]
    say(json.dumps(content, indent=2))


def _print_table(query: str, results: "Sequence[Result]") -> None:
    if results:
        show(_table(query, results), uncut=True)
    else:
        say(
            f"{_on_one_line(query)}: no image; the index is empty, or none passes --where",
            style="yellow",
        )


def _table(query: str, results: "Sequence[Result]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    names = [name for name in ("box", "camera", "time") if any(name in r.fields for r in results)]
    table = Table(title=Text(_on_one_line(query)), title_justify="left", box=None, pad_edge=False)
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    for name in (*names, "file"):
        table.add_column(name)
    for result in results:
        known = [Text(_on_one_line(str(result.fields.get(name, "")))) for name in names]
        file = Text(_on_one_line(str(result.path)))
        table.add_row(str(result.rank), f"{result.score:.4f}", *known, file)
    return table


def _on_one_line(text: str) -> str:
    """Return a text with its control characters written out: names of files may hold any."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _draw(arguments: argparse.Namespace, queries: "Sequence[tuple[str, list[Result]]]") -> None:
    sheet: Path | None = arguments.sheet
    if sheet is None and not arguments.open:
        return
    import tempfile
    import webbrowser

    from tireid.search.sheet import draw_sheet

    if sheet is None:
        sheet = Path(tempfile.mkdtemp(prefix="tireid-search-")) / "sheet.png"
    draw_sheet(queries, sheet)
    say(f"written: {sheet}", to_stderr=True)
    if arguments.open:
        webbrowser.open(sheet.absolute().as_uri())


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="tireid search",
        description="Find people in an index of images by sentences, an image, or both.",
    )
    parser.add_argument(
        "sentences",
        nargs="*",
        metavar="SENTENCE",
        help="description of a person; -: sentences from standard input, one a line",
    )
    parser.add_argument(
        "--in",
        dest="index",
        type=Path,
        default=Path("gallery"),
        metavar="FOLDER",
        help="index that `tireid index` has made (default: gallery)",
    )
    parser.add_argument("-k", type=int, default=20, help="number of results (default: 20)")
    parser.add_argument("--image", type=Path, metavar="FILE", help="search with this image too")
    parser.add_argument(
        "--image-weight",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of the image beside a sentence, from 0 to 1 (default: 0.5)",
    )
    parser.add_argument(
        "--not",
        dest="without",
        action="append",
        default=[],
        metavar="WORDS",
        help="what is not wanted; may be repeated",
    )
    parser.add_argument("--where", metavar="FILTER", help="as in 'camera=3 and time>10:00'")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="draw the results (PNG)")
    parser.add_argument("--open", action="store_true", help="show the drawing")
    parser.add_model_of_index()
    arguments = parser.parse()
    if not arguments.sentences and arguments.image is None:
        parser.error("expected a SENTENCE or --image, got neither")
    return arguments
