"""Choice of the threshold above which the answer is yes, by the score that it gives on one part of the data."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def cuts(values: Floats) -> Floats:
    """Return one threshold for each way to divide the values (n,), ascending: (distinct values + 1,).

    They lie below all values, half-way between neighbours, and above all values; ``value > threshold`` is yes.
    """
    distinct = np.unique(values)
    between = (distinct[:-1] + distinct[1:]) / 2
    return np.concatenate([[distinct[0] - 1], between, [distinct[-1] + 1]])


def best_cut(candidates: Floats, scores: Floats, default: float) -> float:
    """Return the threshold nearest to ``default`` among those of (m,) with the highest score of (m,)."""
    best = candidates[scores >= scores.max() - 1e-12]
    return float(best[np.abs(best - default).argmin()])


def yes_counts(values: Floats, weights: Floats, candidates: Floats) -> Floats:
    """Return, for each candidate (m,), the sum of the weights (n,) of the values (n,) above it."""
    order = np.argsort(values, kind="stable")
    at_most = np.concatenate([[0.0], np.cumsum(weights[order])])
    above: Floats = at_most[-1] - at_most[np.searchsorted(values[order], candidates, side="right")]
    return above
