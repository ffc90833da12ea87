"""Optimism of a score on the rows that chose its epoch and thresholds."""

import numpy as np
import pytest

from trainables.training.optimism import ResampledScores, optimism


def test_each_resample_chooses_its_own_epoch() -> None:
    first = ResampledScores(own=[0.8, 0.6], whole=[0.7, 0.7])
    second = ResampledScores(own=[0.7, 0.9], whole=[0.6, 0.5])
    assert optimism([first, second]) == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert optimism([first]) == pytest.approx(0.0)


def test_the_optimism_of_the_best_of_equal_epochs_is_found() -> None:
    # 8 epochs are right on each of 200 rows with the same probability: the best one is so by chance alone.
    rng = np.random.default_rng(0)
    errors, corrected = [], []
    for _ in range(100):
        right = rng.random((8, 200)) < 0.8
        values = right.mean(axis=1)
        draws = rng.integers(200, size=(40, 200))
        epochs = [
            ResampledScores(own=[epoch[draw].mean() for draw in draws], whole=[float(epoch.mean())] * len(draws))
            for epoch in right
        ]
        errors.append(values.max() - 0.8)
        corrected.append(values.max() - optimism(epochs) - 0.8)
    assert np.mean(errors) > 0.03
    assert abs(np.mean(corrected)) < 0.4 * np.mean(errors)
