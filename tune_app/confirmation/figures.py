"""Figures of the test part: means over the models of a configuration, with bootstrap intervals over its groups."""

import statistics
from collections.abc import Sequence

import numpy as np

from tune_app.confirmation.statistics import LEVEL, Floats
from tune_app.confirmation.trainings import ModelScore, Trainings
from tune_app.study.confirmation import Interval, TestFigure, TestPart
from tune_app.study.reporting import baselines_in

__test__ = False


def figures_of(trainings: Trainings, metric: str, numbers: dict[str, int | None]) -> TestPart | None:
    """Return the figures of the models that were scored on the test part; None while there are none.

    Args:
        numbers: trial number in the confirmed study by the key of a configuration (``Trainings.key``).
    """
    tested, scores = trainings.tested, trainings.scores()
    if tested is None:
        return None
    winner = trainings.key(tested.winner)
    recommended = None if tested.recommended is None else trainings.key(tested.recommended)
    of_winner = [score for score in scores if trainings.key(score.params) == winner]
    if not of_winner:
        return None
    figure = _figure(of_winner, numbers.get(winner))
    of_other = [score for score in scores if winner != recommended == trainings.key(score.params)]
    other = _figure(of_other, numbers.get(recommended or "")) if of_other else None
    difference = None if other is None else _resampled(of_winner) - _resampled(of_other)
    baselines = baselines_in(of_winner[0].metrics, metric)
    return TestPart(
        figure.number,
        figure.value,
        figure.interval,
        figure.models,
        max(baselines.values(), default=None),
        tested.opened,
        other,
        None if other is None else figure.value - other.value,
        None if difference is None else _percentiles(difference),
    )


def _figure(scores: Sequence[ModelScore], number: int | None) -> TestFigure:
    value = statistics.fmean(score.value for score in scores)
    return TestFigure(number, value, _percentiles(_resampled(scores)), len(scores))


def _resampled(scores: Sequence[ModelScore]) -> Floats:
    """Return the mean over models on each draw of the test part's groups: (draws,)."""
    means: Floats = np.array([score.resampled for score in scores]).mean(axis=0)
    return means


def _percentiles(values: Floats) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
