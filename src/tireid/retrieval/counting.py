"""Counting, in one query's rounded similarities, those that reach each of its positives."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

_FEW = 16  # if at most one column in so many reaches a bound, those are sorted
_BOUNDS = 6  # so few bounds are compared with all columns one by one, which beats cells
_CELLS = 4096
_NONE: Int[ndarray, " 0"] = np.zeros(0, np.intp)


class Counted(NamedTuple):
    """How many columns reach each bound, and which are too close to tell.

    Attributes:
        certain: Of each bound, the columns that reach it whatever rounding has changed.
        columns: Columns that are too close to a bound, once for each such bound.
        slots: The bound of each.
    """

    certain: Int[ndarray, " bounds"]
    columns: Int[ndarray, " open"]
    slots: Int[ndarray, " open"]


def count_reaching(
    values: Float[ndarray, " columns"],
    low: Float[ndarray, " bounds"],
    high: Float[ndarray, " bounds"],
) -> Counted:
    """Count the values that reach each of some falling bounds.

    Args:
        values: Rounded similarities, any order.
        low: Values below do not reach the bound.
        high: Values from it on reach the bound; those between are open.
    """
    is_reaching = values >= low[-1]
    reached = np.count_nonzero(is_reaching)
    if not reached:
        return Counted(np.zeros(len(low), np.intp), _NONE, _NONE)
    if reached * _FEW <= len(values):
        return _among(values, np.flatnonzero(is_reaching), low, high)
    if len(low) <= _BOUNDS:
        return _bound_by_bound(values, low, high)
    columns, counts = _near(values, low, high)
    near = _among(values, columns, low, high)
    return near._replace(certain=near.certain + counts)


def _among(
    values: Float[ndarray, " columns"],
    columns: Int[ndarray, " some"],
    low: Float[ndarray, " bounds"],
    high: Float[ndarray, " bounds"],
) -> Counted:
    """Count among some columns, by a sort."""
    order = values[columns].argsort()
    ordered = values[columns[order]]
    begin, end = ordered.searchsorted(low), ordered.searchsorted(high)
    slots = np.flatnonzero(begin < end)
    found = [order[begin[slot] : end[slot]] for slot in slots]
    return _counted(len(ordered) - end, [columns[part] for part in found], slots)


def _bound_by_bound(
    values: Float[ndarray, " columns"],
    low: Float[ndarray, " bounds"],
    high: Float[ndarray, " bounds"],
) -> Counted:
    """Count by a look at all values for each bound."""
    certain = np.array([np.count_nonzero(values >= bound) for bound in high])
    reached = np.array([np.count_nonzero(values >= bound) for bound in low])
    slots = np.flatnonzero(reached > certain)
    between = [np.flatnonzero((values >= low[s]) & (values < high[s])) for s in slots]
    return _counted(certain, between, slots)


def _near(
    values: Float[ndarray, " columns"],
    low: Float[ndarray, " bounds"],
    high: Float[ndarray, " bounds"],
) -> tuple[Int[ndarray, " some"], Int[ndarray, " bounds"]]:
    """Return the columns near any bound, and of each bound how many others reach it."""
    least = float(low[-1])
    span = max(float(high[0]) - least, 1e-6)
    own, first, last = (_cells(part, least, span) for part in (values, low, high))
    near = np.zeros(_CELLS + 1, np.bool_)
    for start, stop in zip(first, last, strict=True):
        near[start : stop + 1] = True
    counts = np.bincount(own, minlength=_CELLS + 1)
    counts[near] = 0
    above = counts[::-1].cumsum()
    return np.flatnonzero(near[own]), above[_CELLS - last]


def _cells(part: Float[ndarray, " part"], least: float, span: float) -> Int[ndarray, " part"]:
    """Number equal parts of the span of the bounds; each step keeps the order of values."""
    scale = (_CELLS - 2) / span
    place = part * part.dtype.type(scale)
    place += part.dtype.type(1 - least * scale)
    return np.clip(place, 0, _CELLS, out=place).astype(np.intp)


def _counted(
    certain: Int[ndarray, " bounds"],
    columns: list[Int[ndarray, " _"]],
    slots: Int[ndarray, " open"],
) -> Counted:
    if not columns:
        return Counted(certain, _NONE, _NONE)
    repeated = np.repeat(slots, [len(part) for part in columns])
    return Counted(certain, np.concatenate(columns), repeated)
