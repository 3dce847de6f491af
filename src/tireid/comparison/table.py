"""The table of results: means over seeds, on the terminal and in Markdown."""

import statistics
from collections.abc import Collection, Iterable, Sequence

from rich.table import Table
from rich.text import Text

from tireid.console import escaped, say, show
from tireid.metrics.names import compared
from tireid.runs.results import Result, Unfinished, rows_of

NONE = "-"


def columns() -> dict[str, str]:
    """Return the heads of the metrics that tables and CSV files have, by their names."""
    return {"val/R1": "val R@1"} | compared("test/")  # the default monitor, and the results


def table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table, with means over the seeds of each row."""
    several_sets = len({result.dataset for result in results}) > 1
    shown = columns()
    names = [name for name in shown if any(name in result.metrics for result in results)]
    head = ["run", *(["data set"] if several_sets else []), "seeds"]
    head += [*(shown[name] for name in names), "million weights", "steps"]
    rows = []
    for seeds in rows_of(results):
        first = seeds[0]
        row = [marked_label(first), *([first.dataset] if several_sets else []), str(len(seeds))]
        row += [
            spread([one.metrics[name] for one in seeds if name in one.metrics]) for name in names
        ]
        row += [f"{first.parameters / 1e6:.1f}", str(first.steps)]
        rows.append(row)
    return head, rows


def marked_label(result: Result) -> str:
    """Return the label of a run, marked if its checkpoint was chosen on the test split."""
    return f"{result.label}{' (CHOSEN ON TEST)' if result.selection == 'test' else ''}"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return mean ± sample standard deviation; a single value has none, no value is a dash."""
    if not values:
        return NONE
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def differing_data(results: Sequence[Result]) -> bool:
    """Return whether runs on one data set were tested on different files."""
    splits = {(result.dataset, result.test_data) for result in results}
    return len(splits) > len({result.dataset for result in results})


def print_results(results: Sequence[Result]) -> None:
    """Print the table of results, and a warning if its rows do not compare."""
    head, rows = table(results)
    print_table(head, rows, numbers=range(1, len(head)))
    if differing_data(results):
        say("The rows were not tested on the same data.", style="bold red")


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[int]
) -> None:
    """Print a table, uncut; rows whose checkpoint was chosen on the test split are red.

    Args:
        head: Names of the columns.
        rows: Cells of each row, plain text.
        numbers: Columns that are aligned at the right.
    """
    shown = Table()
    for number, name in enumerate(head):
        justify = "right" if number in numbers else "left"
        shown.add_column(name, justify=justify, no_wrap=number > 0)
    for row in rows:
        cells = [Text(cell) for cell in row]  # a label is not markup
        shown.add_row(*cells, style="red" if "CHOSEN ON TEST" in row[0] else None)
    show(shown, uncut=True)


def print_unfinished(runs: Iterable[Unfinished]) -> None:
    """Print a line for each run without a result."""
    for run in runs:
        say(str(run), style="red" if run.state in ("failed", "unreadable") else "yellow")


def markdown(
    head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1, right: int = 0
) -> str:
    """Return a Markdown table.

    Args:
        head: Names of the columns, plain text.
        rows: Cells of each row, plain text.
        left: Number of columns at the left that hold text rather than numbers.
        right: Number of such columns at the right.
    """
    numbers = len(head) - left - right
    ruler = [*["---"] * left, *["---:"] * numbers, *["---"] * right]
    lines = [map(escaped, head), ruler, *(map(escaped, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(text: str, name: str, content: str) -> str:
    """Return `text` with new content between the markers of a name.

    Raises:
        ValueError: If `text` has not exactly one pair of `<!-- name -->` and `<!-- /name -->`.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected one {begin} and after it one {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
