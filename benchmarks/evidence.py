"""Fill the pages from `results/`, and list the measured numbers in them that no file accounts for.

    make evidence

Two markers, which a page does not show, name where its numbers come from:

- between `<!-- NAME -->` and `<!-- /NAME -->` stands the table of `results/NAME.csv`, with means
  over seeds, or that of `results/NAME.json`;
- `<!-- from: FILE KEY -->` above a paragraph or list names the file with its numbers; the key
  is a path in JSON, `seconds.train`, or a column, `val/R1`, without which all of the file counts.
  Of results, means over seeds count, differences between rows, and the column `minutes`.

A number is measured if it has a decimal point or a unit. Limits and definitions stand in `RULES`.
"""

import csv
import json
import math
import re
import statistics
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

from tireid.comparison import table
from tireid.console import complain, say
from tireid.files import write_text
from tireid.runs.results import read_csv, rows_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Numbers that nobody measured, by their page.
RULES: dict[str, tuple[str, ...]] = {
    "docs/configuration.md": ("margin 0.3", "margin 0.2"),
    "docs/data.md": ("147 kB an image", "5.0 GB for", "at most 1 GiB", "up to 1 %"),
    "docs/datasets.md": ("5 % of the training identities",),
    "docs/evaluation.md": ("would take 1.6 GB",),
    "docs/long-runs.md": ("(10 minutes)", "20 seconds after", "(64 MB in a container)"),
    "docs/methods/irra.md": ("masks 15 %",),
    "docs/methods/lcr2s.md": ("margin 0.2",),
    "docs/own-data.md": ("20 % are tested", "5 % of the rest"),
    "docs/reproduce.md": ("by estimate 7 GB",),
    "docs/results.md": ("95 % bootstrap intervals",),
    "docs/search.md": (
        *(
            "every 2 seconds",
            "5 % of what is around",
            "0.75 times",
            "0.25 times",
            "about 5 s at most",
        ),
        *("20 MiB", "over 1 GiB", "Apache-2.0"),
    ),
    "docs/speed.md": ("in 10 minutes at most",),
    "docs/use.md": ("by estimate 7 GB", "an archive of 6 GB"),
}
_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_UNIT = (
    r"(?:MiB|GiB|KiB|[kMGT]B|[mµ]?s|seconds?|min|minutes?|hours?|h|%|percent|points?|times|a second"
    r"|images/s|CPU (?:ms|seconds?)|images a second)"
)
_BESIDE = rf"(?: (?:to|and|or) {_NUMBER})?"  # shares its unit: 40 to 46 s
_MEASURED = re.compile(
    rf"(?<![\w.,/])(?:{_NUMBER}(?={_BESIDE} ?{_UNIT}(?![\w/]))|\d[\d,]*\.\d+)(?![\w.]*\w)"
)
# Code, the targets of links, and the numbers of versions and documents.
_NO_PROSE = re.compile(
    r"```.*?^```|`[^`\n]*`|\]\([^)]*\)|(?:arXiv|doi|Python|PyTorch|CUDA) [\d./]+", re.S | re.M
)
_FROM = re.compile(r"<!-- from: (\S+)(?: (\S+))? -->")
_BLOCK = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.DOTALL)


class Loose(NamedTuple):
    """A measured number without a source.

    Attributes:
        line: Its line in the page, from 1.
        number: As it is written.
        why: What is wanted.
    """

    line: int
    number: str
    why: str


@cache
def content(name: str) -> str | None:
    """Return the table of a name in Markdown; None if no file of results has it."""
    file = ROOT / "results" / name
    if file.with_suffix(".csv").is_file():
        return table.markdown(*table.table(read_csv(file.with_suffix(".csv"))))
    if file.with_suffix(".json").is_file():
        found = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["table"]
        return table.markdown(found["head"], found["rows"], left=found.get("left", 1))
    return None


def filled(text: str) -> str:
    """Return a page with the tables of its markers as the results have them."""
    for name in dict.fromkeys(_BLOCK.findall(text)):
        if (shown := content(name)) is not None:
            text = table.fill(text, name, shown)
    return text


def loose_numbers(text: str, page: str = "") -> Iterator[Loose]:
    """Yield the measured numbers of a page that neither a marker nor a rule accounts for."""
    for rule in RULES.get(page, ()):
        text = text.replace(rule, re.sub(r"\d", "_", rule))
    text = _BLOCK.sub(_blank, text)
    text = _NO_PROSE.sub(_blank, text)
    line, sources = 1, list[tuple[str, str | None]]()
    for part in re.split(r"(\n\s*\n)", text):
        if found := [(m[1], m[2]) for m in _FROM.finditer(part)]:
            sources = found
        prose = re.sub(r"<!--.*?-->", _blank, part, flags=re.DOTALL)
        for match in _MEASURED.finditer(prose):
            why = f"not in {', '.join(name for name, _ in sources)}" if sources else "no source"
            if not any(_is_in(match[0], *source) for source in sources):
                yield Loose(line + prose.count("\n", 0, match.start()), match[0], why)
        line += part.count("\n")
        if part.strip() and prose.strip():
            sources = []  # a marker holds for one part


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _is_in(number: str, name: str, key: str | None) -> bool:
    digits = len(number.partition(".")[2])
    shown = float(number.replace(",", ""))
    return any(abs(abs(v) - shown) <= 0.5 * 10**-digits + 1e-9 for v in _values(name, key))


@cache
def _values(name: str, key: str | None) -> list[float]:
    file = ROOT / name
    if file.suffix == ".json":
        node = json.loads(file.read_text(encoding="utf-8"))
        for part in key.split(".") if key else ():
            node = node[int(part) if isinstance(node, list) else part]
        return list(_numbers(node))
    if file.parent.name == "results":
        means = [list(_means(row, key)) for row in rows_of(read_csv(file))]
        pairs = chain.from_iterable(zip(*rows, strict=True) for rows in combinations(means, 2))
        return [*chain.from_iterable(means), *(one - other for one, other in pairs)]
    with file.open(encoding="utf-8", newline="") as lines:
        return list(_numbers([row if key is None else row[key] for row in csv.DictReader(lines)]))


def _means(row: list[Any], key: str | None) -> Iterator[float]:
    for name in table.columns() if key is None else [key]:
        values = [one.metrics.get(name) for one in row]
        if name == "minutes":  # of the runs that had a machine to themselves
            values = [one.seconds / 60 for one in row if math.isfinite(one.seconds)]
        yield statistics.fmean(values) if values and None not in values else float("nan")


def _numbers(node: Any) -> Iterator[float]:
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _numbers(inner)
    elif isinstance(node, str):
        for found in re.findall(_NUMBER, node):
            yield float(found.replace(",", ""))
    elif isinstance(node, int | float):
        yield float(node)


def main() -> None:
    """Fill the pages and list what is loose; exit 1 if anything is."""
    count = 0
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        text = page.read_text(encoding="utf-8")
        if (now := filled(text)) != text:
            write_text(page, now)
            say(f"filled: {name}")
        for one in loose_numbers(now, name):
            count += 1
            say(f"{name}:{one.line}: {one.number}: {one.why}")
    if count:
        complain(f"expected a source for each measured number, got none for {count}")
        sys.exit(1)


if __name__ == "__main__":
    main()
