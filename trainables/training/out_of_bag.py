"""Score of a run on rows that did not choose its epoch and thresholds, and its noise, estimated by the bootstrap."""

import statistics
from collections.abc import Sequence
from typing import TypedDict


class ResampledScores(TypedDict):
    """Objective of one epoch by resample of the validation part's groups: (resamples,) each.

    Attributes:
        own: objective on the resample, with thresholds chosen on it.
        rest: objective on the rows that are not in the resample, with these thresholds.
        fixed: objective on the resample, with the thresholds that all rows chose.
    """

    own: list[float]
    rest: list[float]
    fixed: list[float]


def out_of_bag_value(epochs: Sequence[ResampledScores]) -> float | None:
    """Return the value to expect of the best epoch on other rows; None if no resample left rows out.

    The value of the best epoch is too high, because its own rows choose the epoch and its thresholds. So every resample
    chooses them, and the rows that it lacks score them. This errs on the low side, since a resample holds fewer
    distinct rows. Source: bootstrap bias correction, Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the
    Out-of-sample Predictions for Efficient and Accurate Cross-Validation", Machine Learning, 2018.

    Args:
        epochs: scores of every epoch on the same resamples; at least one epoch.
    """
    found = []
    for resample in range(len(epochs[0]["own"])):
        chosen = max(epochs, key=lambda epoch: epoch["own"][resample])
        found.append(chosen["rest"][resample])
    return statistics.fmean(found) if found else None


def deviation(epoch: ResampledScores) -> float | None:
    """Return the standard deviation of an epoch's score over other rows of the same number; None if it is unknown.

    The thresholds are those of the run: on other rows nothing is chosen.
    """
    return statistics.stdev(epoch["fixed"]) if len(epoch["fixed"]) > 1 else None
