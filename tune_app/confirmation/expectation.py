"""Value to expect of a winner on unseen rows, corrected for how it was chosen, with an interval for the test part."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune_app.confirmation.statistics import LEVEL, Values, block_design, shrunk_value
from tune_app.study.confirmation import Interval

_REACH = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Parts:
    """Numbers of rows of the three parts of the data."""

    train: int
    validation: int
    test: int


def expected_value(winner: int, values: Mapping[int, Values]) -> float:
    """Return the value to expect of the winner on unseen rows.

    Two choices make the winner's validation values look better than it is. The best epoch of a training is chosen by
    the rows that score it: corrected values have none of that. And it is the best of several candidates, which
    ``shrunk_value`` corrects.

    Args:
        values: corrected values by candidate, of those that can still win.
    """
    means = {who: math.fsum(of.values()) / len(of) for who, of in values.items()}
    _, variance, _ = block_design(list(values.values()))
    return shrunk_value(winner, means, variance / len(values[winner]))


def expected_interval(
    winner: int, values: Mapping[int, Values], deviations: Sequence[float], parts: Parts
) -> Interval | None:
    """Return the interval for the winner's value on the test part; None if the noise of its rows is unknown.

    The same models are validated and tested, so that only the rows differ. With the variance v of a validation value by
    its rows, and m validation rows among r rows outside the test part, the mean of n values has the variance
    v (1/n + (n - 1)/n · m/r): redrawn parts share rows. The test part adds v · m / its rows.

    Args:
        values: corrected values by candidate, of those that can still win.
        deviations: standard deviation of validation values by their rows, of any of these trainings.
        parts: numbers of rows.
    """
    if not deviations:
        return None
    variance = statistics.fmean(deviation**2 for deviation in deviations)
    count, overlap = len(values[winner]), parts.validation / (parts.train + parts.validation)
    of_mean = 1 / count + (count - 1) / count * overlap
    reach = _REACH * math.sqrt(variance * (of_mean + parts.validation / parts.test))
    centre = expected_value(winner, values)
    return centre - reach, centre + reach
