"""Expected gain of further trials, by which ``search.stop: auto`` ends a search.

The search ends once the expected gain of all remaining trials is below the standard error of the metric on the
validation rows: a smaller gain could not be told from luck. A. Makarova et al., "Automatic Termination for
Hyperparameter Optimization", AutoML 2022, compare a bound on the regret with that error; V. Nguyen et al., "Regret for
Expected Improvement over the Best-Observed Value and Stopping Condition", ACML 2017, stop by the expected improvement.
Here, the values of coming trials are taken to be normal, with the moments of the latest half of the trials: those that
the sampler proposed last. Trials that were stopped count with their projected value.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from tune_app.sampling.projection import Reported, gains_to_end
from tune_app.study.reporting import was_launched

LEAST_TRIALS = 15
"""Trials with a value before which no search ends by its expected gain."""

_LATEST = 10
_POINTS = 400
_FAR = 8.0


def final_values(trials: Sequence[FrozenTrial]) -> list[float]:
    """Return the final or projected value of every launched trial that has reported, in the order of their numbers."""
    reported = [
        Reported(trial.intermediate_values, trial.values[0] if trial.state == TrialState.COMPLETE else None)
        for trial in trials
        if was_launched(trial) and trial.intermediate_values and trial.state != TrialState.FAIL
    ]
    gains = gains_to_end(reported)
    return [
        one.values[one.last_step] + gains.get(one.last_step, 0.0) if one.final is None else one.final
        for one in reported
    ]


def expected_gain(values: Sequence[float], best: float, more: int) -> float:
    """Return the expected gain of further trials over the best complete one.

    Args:
        values: values of the earlier trials, in their order; larger is better.
        best: value of the best complete trial.
        more: number of further trials.
    """
    latest = values[-max(_LATEST, len(values) // 2) :]
    mean, deviation = statistics.fmean(latest), statistics.stdev(latest)
    if deviation == 0.0 or more == 0:
        return max(0.0, mean - best) if more else 0.0
    # E[max(X₁ … Xₙ) − best]⁺ is the integral of 1 − F(x)ⁿ from best upwards.
    end = max(best, mean) + _FAR * deviation
    points = np.linspace(best, end, _POINTS)
    below = np.array([statistics.NormalDist(mean, deviation).cdf(point) for point in points])
    above = 1.0 - below**more
    return float(np.trapezoid(above, points))


def trials_until_pointless(values: Sequence[float], best: float, noise: float, more: int) -> int:
    """Return after how many of ``more`` further trials the gain of the rest is below the noise, if none is better."""
    low, high = 0, more
    while low < high:
        middle = (low + high) // 2
        if expected_gain(values, best, more - middle) < noise:
            high = middle
        else:
            low = middle + 1
    return low


def why_pointless(trials: Sequence[FrozenTrial], noise: float, more: int) -> str | None:
    """Return the reason to end a search that may launch ``more`` further trials; None if they are worth it."""
    values, best = final_values(trials), best_value(trials)
    if len(values) < LEAST_TRIALS or best is None:
        return None
    gain = expected_gain(values, best, more)
    if gain >= noise:
        return None
    return (
        f"the {more} remaining trials are expected to gain {gain:.4f}, less than the metric's standard error of"
        f" {noise:.4f} (search.stop=auto); the same command with search.stop=none goes on"
    )


def best_value(trials: Sequence[FrozenTrial]) -> float | None:
    """Return the value of the best complete trial; None without one."""
    complete = [trial.values[0] for trial in trials if trial.state == TrialState.COMPLETE]
    return max((value for value in complete if math.isfinite(value)), default=None)
