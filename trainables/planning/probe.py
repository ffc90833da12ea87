"""The search for the largest micro-batch that fits: it starts at the prediction and runs the worst case a few times."""

from collections.abc import Callable
from dataclasses import dataclass

MOST_POINTS = 4
# A step that is nearly as large as the corrected prediction allows is large enough.
_GOOD_ENOUGH = 0.95
# A point that ran out of memory did not reach its peak, so the prediction's error is a guess. The second such point
# enlarges the guess, which finds a prediction of half the need in three points.
_OUT_OF_MEMORY_FACTORS = (1.4, 1.5)
# Sizes are whole bytes, but their quotients are not. This relative margin keeps strict comparisons strict.
_MARGIN = 1e-9


@dataclass(frozen=True)
class Probed:
    """The result of a probe.

    Attributes:
        rows: the largest number of rows that was measured to fit; 0 if none was.
        points: the number of sizes that were run.
        factor: the factor by which to multiply predictions so that they allow ``rows`` and, if ``most`` is larger, not
            one row more. It is the measured over the predicted need, or larger if more rows were not measured to fit.
            If the prediction is the same for one row more, that row is allowed too.
    """

    rows: int
    points: int
    factor: float


def try_size(rows: int, predicted: float, measure: Callable[[int], float | None], *, allowed: float) -> Probed:
    """Measure a single point, which fits with all its rows or none; see ``probe``."""
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

    The search starts at the size that the prediction allows and corrects the prediction by each measurement. One point
    is enough if it confirms the prediction. ``most_points`` is never exceeded, and the last point is one row if nothing
    has fitted so far.

    Args:
        predicted: predicted need of a number of rows; it never falls with more rows. Any unit, the same throughout.
        measure: runs a number of rows and returns their peak, or None if memory ran out.
        allowed: the largest peak that is safe.
        factor: the known correction factor of the prediction.
    """
    fits, fails, points, ran_out = 0, most + 1, 0, 0
    largest: tuple[float, float] | None = None
    # Predicted and measured needs of two points: the largest that fitted, or else the previous one, and the last.
    measured: list[tuple[float, float]] = []
    target = allowed / factor
    while points < most_points and fails - fits > 1:
        rows = _largest(predicted, target, fits, fails)
        if rows == fits:
            # The sizes between are unmeasured: try one row first, then half-way.
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
    """Return the predicted need whose peak should be ``allowed``, from one or two points of prediction and peak."""
    need, peak = measured[-1]
    if len(measured) == 2:
        earlier_need, earlier_peak = measured[0]
        if need != earlier_need and peak != earlier_peak:
            # Two points show how much of the error grows with the rows.
            return need + (allowed - peak) * (need - earlier_need) / (peak - earlier_peak)
    return need * allowed / peak


def _largest(need: Callable[[int], float], allowed: float, fits: int, fails: int) -> int:
    """Return the largest number from ``fits`` to below ``fails`` whose need is allowed; ``fits`` counts as allowed."""
    low, high = fits, fails
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need(middle) <= allowed else (low, middle)
    return low
