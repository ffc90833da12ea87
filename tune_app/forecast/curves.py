"""Learning curves of simulated trials, by which a scheduler stops them and patience ends them.

A trial's reports are its final quality, a gain that fades, and noise. The noise is such that the rank correlation of a
report with the last one is that of recorded trainings of a tiny encoder: 0.31 after a quarter of the first epoch and
0.64 after all of it. Nobody knows beforehand which configurations are good, so quality does not depend on cost.
"""

from dataclasses import dataclass

import numpy as np

from tune_app.step_scale import StepScale

_NOISE, _FALL = 1.2, 0.68
"""Standard deviation of a report's noise at one epoch, over that of the quality, and the power by which it falls."""
_PERSISTENT = 0.7
"""Share of the noise (of its variance, squared) that all reports of a trial have in common."""
_GAIN, _EPOCHS = 2.0, 1.5
"""Gain that is still to come at the begin, in standard deviations of the quality, and epochs in which it falls by e."""


@dataclass(frozen=True)
class Curve:
    """Reports of a trial until its own end: its last step, or the end of its patience.

    Attributes:
        values: value of every report.
        epochs: epochs of every fold; empty if the data is not in folds.
    """

    values: list[float]
    epochs: list[int]


def drawn_curve(rng: np.random.Generator, scale: StepScale, epochs: int, patience: int | None) -> Curve:
    """Draw the reports of one trial.

    Args:
        scale: scale of its reports.
        epochs: epochs of a trial, or of a fold.
        patience: epochs without a better one after which the trial, or the fold, ends.
    """
    if not scale.is_fold:
        return Curve(_until_patience(_reports(rng, epochs, scale.per_epoch), scale.per_epoch, patience), [])
    quality = rng.normal()
    folds = [_until_patience(_reports(rng, epochs, 1), 1, patience) for _ in range(scale.count)]
    noise = rng.normal(scale=0.5, size=scale.count)
    means = np.cumsum(quality + noise) / np.arange(1, scale.count + 1)
    return Curve([float(mean) for mean in means], [len(fold) for fold in folds])


def _reports(rng: np.random.Generator, epochs: int, per_epoch: int) -> np.ndarray:
    at = np.arange(1, epochs * per_epoch + 1) / per_epoch
    noise = _PERSISTENT * rng.normal() + np.sqrt(1 - _PERSISTENT**2) * rng.normal(size=len(at))
    values: np.ndarray = rng.normal() - _GAIN * np.exp(-at / _EPOCHS) + _NOISE * at**-_FALL * noise
    return values


def _until_patience(values: np.ndarray, per_epoch: int, patience: int | None) -> list[float]:
    """Return the reports up to the epoch that ends the trial, as ``trainables.trial`` counts patience."""
    if patience is not None:
        whole = values[per_epoch - 1 :: per_epoch]
        for epoch in range(1, len(whole) + 1):
            if epoch - (int(whole[:epoch].argmax()) + 1) >= patience:
                values = values[: epoch * per_epoch]
                break
    return [float(value) for value in values]
