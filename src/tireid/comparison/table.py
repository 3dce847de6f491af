"""Results as a table of means over seeds, in Markdown where wanted."""

import statistics
from collections.abc import Iterable, Sequence

from tireid.metrics.names import compared
from tireid.runs.results import Result, rows_of

# What Markdown or HTML would take for their own; labels are anybody's.
_ESCAPED = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "\\`*_[]|#~$"},
        "<": "&lt;",
        ">": "&gt;",
        "&": "&amp;",
    }
)


def columns() -> dict[str, str]:
    """Return the heads of the metrics that tables and CSV files have, by their names."""
    return {"val/R1": "val R@1"} | compared("test/")  # the default monitor, and the results


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table: mean ± standard deviation over seeds, by label.

    Rows are those of `rows_of`. The deviation is the sample's (n - 1); one run has none.
    """
    several_sets = len({result.dataset for result in results}) > 1
    shown = columns()
    names = [name for name in shown if any(name in result.metrics for result in results)]
    head = ["run", *(["data set"] if several_sets else []), "seeds"]
    head += [*(shown[name] for name in names), "million weights", "steps"]
    rows = []
    for members in rows_of(results):
        first = members[0]
        row = [marked_label(first), *([first.dataset] if several_sets else []), str(len(members))]
        row += [
            _spread([member.metrics[name] for member in members if name in member.metrics])
            for name in names
        ]
        row += [f"{first.parameters / 1e6:.1f}", str(first.steps)]
        rows.append(row)
    return head, rows


def marked_label(result: Result) -> str:
    """Return a run's label, marked if its checkpoint was chosen on the test split."""
    return f"{result.label}{' (CHOSEN ON TEST)' if result.selection == 'test' else ''}"


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def markdown(
    head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1, tail: int = 0
) -> str:
    """Return a Markdown table, of which so many columns at its left and right are no numbers.

    Cells are plain text.
    """
    numbers = len(head) - words - tail
    ruler = [*["---"] * words, *["---:"] * numbers, *["---"] * tail]
    lines = [map(escaped, head), ruler, *(map(escaped, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    return " ".join(text.split()).translate(_ESCAPED)


def fill(text: str, name: str, content: str) -> str:
    """Return `text` with the lines between the markers of a name replaced.

    Raises:
        ValueError: If `text` has not exactly one pair of `<!-- name -->` and `<!-- /name -->`.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected one {begin} and after it one {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
