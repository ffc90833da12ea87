"""Finds the largest micro-batch that fits, by running the worst case: from the prediction, in few points."""

from collections.abc import Callable
from dataclasses import dataclass

MOST_POINTS = 4
# A step that is nearly as large as the corrected prediction allows is large enough.
_GOOD_ENOUGH = 0.95
# A point that ran out of memory did not come to its peak, so by how much it was off is a guess: one that the second
# such point makes larger, and that finds a prediction of half the need in three points.
_OUT_OF_MEMORY_FACTORS = (1.4, 1.5)
# Sizes are whole bytes, and quotients of them are not: what is to be more than another is so by this share of it.
_MARGIN = 1e-9


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Attributes:
        rows: the largest number of rows that was measured to fit; 0 where none was.
        points: how many sizes were run.
        factor: what to multiply predictions by, so that they allow ``rows`` and, where ``most`` asks for more, not one
            more: measured over predicted need, or more than that where more rows were not measured to fit. Where the
            prediction is the same for one row more, that is allowed too.
    """

    rows: int
    points: int
    factor: float


def try_size(rows: int, predicted: float, measure: Callable[[int], float | None], *, allowed: float) -> Probed:
    """A single point: all the rows that are wanted, or none; see ``probe``."""
    peak = measure(rows)
    if peak is None:
        return Probed(0, 1, max(1.0, allowed / predicted) * _OUT_OF_MEMORY_FACTORS[0])
    return Probed(rows if peak <= allowed else 0, 1, peak / predicted)


def probe(
    predicted: Callable[[int], float],
    measure: Callable[[int], float | None],
    *,
    allowed: float,
    most: int,
    factor: float = 1.0,
    most_points: int = MOST_POINTS,
) -> Probed:
    """Find the largest number of rows, at most ``most``, whose measured peak is allowed.

    Starts at what the prediction allows and corrects the prediction by what it measures. Where that is confirmed, one
    point is enough; ``most_points`` are never exceeded, and the last of them, if nothing fitted so far, is one row.

    Args:
        predicted: need of so many rows; never falls with more rows. Any unit, the same throughout.
        measure: runs so many rows and returns their peak, or None if memory ran out.
        allowed: the largest peak that is safe.
        factor: what is known already of how far the prediction is off.
    """
    fits, fails, points, ran_out = 0, most + 1, 0, 0
    largest: tuple[float, float] | None = None
    # Predicted and measured needs of two points: of the largest that fitted, or else the one before, and of the last.
    measured: list[tuple[float, float]] = []
    target = allowed / factor
    while points < most_points and fails - fits > 1:
        rows = _largest(predicted, target, fits, fails)
        if rows == fits:
            # Nothing is known of what lies between: one row at first, then half-way.
            rows = (fits + fails) // 2 if fits else 1
        if points == most_points - 1 and fits == 0:
            rows = 1
        need, peak = predicted(rows), measure(rows)
        points += 1
        if peak is None:
            fails = rows
            ran_out += 1
            times = _OUT_OF_MEMORY_FACTORS[min(ran_out, len(_OUT_OF_MEMORY_FACTORS)) - 1]
            target = largest[0] if largest else min(target, need) / times
            continue
        measured = [*([largest] if largest else measured[-1:]), (need, peak)]
        target = _target(measured, allowed)
        if peak > allowed:
            fails = rows
            continue
        fits, largest = rows, (need, peak)
        if rows >= _GOOD_ENOUGH * _largest(predicted, target, fits, fails):
            break
    if largest is None:
        return Probed(0, points, allowed / target)
    need, peak = largest
    factor = peak / need
    if fits < most:
        factor = max(factor, allowed / predicted(fits + 1) * (1 + _MARGIN))
    return Probed(fits, points, min(factor, allowed / need * (1 - _MARGIN / 2)))


def _target(measured: list[tuple[float, float]], allowed: float) -> float:
    """The predicted need at which the peak should be ``allowed``, by one or two points of prediction and peak."""
    need, peak = measured[-1]
    if len(measured) == 2:
        earlier_need, earlier_peak = measured[0]
        if need != earlier_need and peak != earlier_peak:
            # Through two points it is known how much of the error grows with the rows.
            return need + (allowed - peak) * (need - earlier_need) / (peak - earlier_peak)
    return need * allowed / peak


def _largest(need: Callable[[int], float], allowed: float, fits: int, fails: int) -> int:
    """The largest number from ``fits`` on and below ``fails`` whose need is allowed; ``fits`` counts as allowed."""
    low, high = fits, fails
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need(middle) <= allowed else (low, middle)
    return low
