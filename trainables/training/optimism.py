"""Optimism and noise of a score on the rows that chose its epoch and thresholds, estimated by the bootstrap."""

import statistics
from collections.abc import Sequence
from typing import TypedDict


class ResampledScores(TypedDict):
    """Objective of one epoch by resample of the validation part: (resamples,) each.

    Attributes:
        own: objective on the resample, with thresholds chosen on it.
        whole: objective on the whole part with these thresholds.
    """

    own: list[float]
    whole: list[float]


def optimism(epochs: Sequence[ResampledScores]) -> float:
    """Return the amount by which the best epoch's score is too high, because its own rows chose it.

    For every resample the choice is made anew: the thresholds of each epoch and the best epoch. Its optimism is the
    score on the resample less the score of the same choice on all rows. Source: Efron, "Estimating the Error Rate of a
    Prediction Rule", JASA 1983; Harrell, Regression Modeling Strategies, 2nd edition, section 5.3.4.

    Args:
        epochs: scores of every epoch on the same resamples; at least one epoch.
    """
    found = []
    for resample in range(len(epochs[0]["own"])):
        chosen = max(epochs, key=lambda epoch: epoch["own"][resample])
        found.append(chosen["own"][resample] - chosen["whole"][resample])
    return statistics.fmean(found)


def deviation(epoch: ResampledScores) -> float:
    """Return the standard deviation of an epoch's score over other rows of the same number: its noise by its rows."""
    return statistics.stdev(epoch["own"])
