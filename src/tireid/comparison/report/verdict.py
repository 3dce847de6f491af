"""The first sentence of a report: which row is best, by how much, and whether that is clear."""

import statistics
from collections.abc import Iterator

from tireid.comparison.report.differences import signed
from tireid.comparison.report.loading import Comparison, Row, same_queries
from tireid.comparison.significance import paired_difference
from tireid.metrics.names import METRICS

_METRIC = METRICS["R1"]


def verdicts(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence for each set of test files that several rows were tested on.

    Rows whose checkpoint was chosen on the test split win nothing.
    """
    rows = [row for row in comparison.rows if row.first.selection != "test" and _values(row)]
    several = len(comparison.datasets) > 1
    for tested in dict.fromkeys((row.dataset, row.first.test_data) for row in rows):
        ranked = sorted(
            (row for row in rows if (row.dataset, row.first.test_data) == tested),
            key=lambda row: -statistics.fmean(_values(row)),
        )
        if len(ranked) > 1:
            where = f"On {tested[0]}, " if several else ""
            yield where + _sentence(ranked[0], ranked[1])


def _sentence(best: Row, second: Row) -> str:
    first, other = (statistics.fmean(_values(row)) for row in (best, second))
    begun = f"{best.name} has the best {_METRIC.label}: {first:.1f} %, {first - other:.1f} points "
    begun += f"above {second.name}, the next."
    if not (best.queries and second.queries and same_queries(best, second)):
        return f"{begun} Whether that is clear is not known: results by query are not recorded."
    one = paired_difference(second.queries, best.queries, _METRIC.key)
    interval = f"95 % interval [{signed(one.low)}, {signed(one.high)}]"
    if not one.clear:
        return f"{begun} That is not clear: its {interval} includes zero."
    seeds = min(one.seeds)
    few = f"; {seeds} seed{'s are' if seeds > 1 else ' is'} few" if seeds < 3 else ""
    return f"{begun} That is clear on these queries: its {interval} excludes zero{few}."


def _values(row: Row) -> list[float]:
    return row.values(f"test/{_METRIC.key}")
