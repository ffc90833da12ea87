"""Finds the largest micro-batch that fits, by running the worst case: from the prediction, in few points."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nextafter

MOST_POINTS = 4
# A step that is nearly as large as the corrected prediction allows is large enough.
_GOOD_ENOUGH = 0.95
# By how much, at least, a point that ran out of memory was larger than its prediction: it did not come to its peak.
_OUT_OF_MEMORY_FACTOR = 1.25


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Attributes:
        rows: the largest number of rows that was measured to fit; 0 where none was.
        points: how many sizes were run.
        factor: what to multiply predictions by, so that they allow ``rows`` and not one more: measured over predicted
            need, or more than that where more rows were not measured to fit.
    """

    rows: int
    points: int
    factor: float


def probe(
    predicted: Callable[[int], float], measure: Callable[[int], float | None], *, allowed: float, most: int
) -> Probed:
    """Find the largest number of rows, at most ``most``, whose measured peak is allowed.

    Starts at what the prediction allows and corrects the prediction by what it measures. Where that is confirmed, one
    point is enough; ``MOST_POINTS`` are never exceeded, and the last of them, if nothing fitted so far, is one row.

    Args:
        predicted: need of so many rows; never falls with more rows. Any unit, the same throughout.
        measure: runs so many rows and returns their peak, or None if memory ran out.
        allowed: the largest peak that is safe.
    """
    fits, fails, factor, points = 0, most + 1, 1.0, 0
    while points < MOST_POINTS and fails - fits > 1:
        rows = max(fits + 1, _largest(predicted, allowed / factor, fits, fails))
        if points == MOST_POINTS - 1 and fits == 0:
            rows = 1
        peak = measure(rows)
        points += 1
        if peak is not None and peak <= allowed:
            fits, factor = rows, peak / predicted(rows)
            could = _largest(predicted, allowed / factor, fits, fails)
            if rows >= _GOOD_ENOUGH * could:
                break
        else:
            fails = rows
            seen = inf if peak is None else peak / predicted(rows)
            factor = seen if seen < inf else max(factor, allowed / predicted(rows)) * _OUT_OF_MEMORY_FACTOR
    if 0 < fits < most:
        factor = max(factor, nextafter(allowed / predicted(fits + 1), inf))
    return Probed(fits, points, factor)


def _largest(need: Callable[[int], float], allowed: float, fits: int, fails: int) -> int:
    """The largest number from ``fits`` on and below ``fails`` whose need is allowed; ``fits`` counts as allowed."""
    low, high = fits, fails
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need(middle) <= allowed else (low, middle)
    return low
