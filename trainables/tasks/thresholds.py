"""The threshold above which the answer is yes, chosen on one part of the data for what it does to a score there."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def cuts(values: Floats) -> Floats:
    """Every threshold that parts the values (n,) in another way, rising: (distinct values + 1,).

    Below all, half-way between neighbours, above all; ``value > threshold`` is yes.
    """
    distinct = np.unique(values)
    between = (distinct[:-1] + distinct[1:]) / 2
    return np.concatenate([[distinct[0] - 1], between, [distinct[-1] + 1]])


def best_cut(candidates: Floats, scores: Floats, default: float) -> float:
    """Of the thresholds (m,) with the highest of the scores (m,) the one nearest to ``default``."""
    best = candidates[scores >= scores.max() - 1e-12]
    return float(best[np.abs(best - default).argmin()])


def yes_counts(values: Floats, weights: Floats, candidates: Floats) -> Floats:
    """Sum of the weights (n,) of the values (n,) above each candidate (m,)."""
    order = np.argsort(values, kind="stable")
    at_most = np.concatenate([[0.0], np.cumsum(weights[order])])
    above: Floats = at_most[-1] - at_most[np.searchsorted(values[order], candidates, side="right")]
    return above
