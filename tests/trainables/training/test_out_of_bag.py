"""Score of a run on rows that did not choose its epoch."""

import numpy as np
import pytest

from trainables.training.out_of_bag import ResampledScores, deviation, out_of_bag_value


def test_each_resample_chooses_its_own_epoch() -> None:
    first = ResampledScores(own=[0.8, 0.6], rest=[0.7, 0.7], fixed=[0.8, 0.6])
    second = ResampledScores(own=[0.7, 0.9], rest=[0.6, 0.5], fixed=[0.7, 0.9])
    assert out_of_bag_value([first, second]) == pytest.approx((0.7 + 0.5) / 2)
    assert out_of_bag_value([ResampledScores(own=[], rest=[], fixed=[])]) is None


def test_the_deviation_needs_two_resamples() -> None:
    assert deviation(ResampledScores(own=[0.8, 0.6], rest=[0.7, 0.7], fixed=[0.8, 0.6])) == pytest.approx(
        0.2 / np.sqrt(2)
    )
    assert deviation(ResampledScores(own=[0.8], rest=[0.7], fixed=[0.8])) is None


def test_the_best_of_equal_epochs_is_not_taken_for_better() -> None:
    # 8 epochs are right on each of 200 rows with the same probability: the best one is so by chance alone.
    rng = np.random.default_rng(0)
    best, corrected = [], []
    for _ in range(100):
        right = rng.random((8, 200)) < 0.8
        draws = rng.integers(200, size=(20, 200))
        left_out = [np.setdiff1d(np.arange(200), draw) for draw in draws]
        epochs = [
            ResampledScores(
                own=[float(epoch[draw].mean()) for draw in draws],
                rest=[float(epoch[rest].mean()) for rest in left_out],
                fixed=[],
            )
            for epoch in right
        ]
        best.append(right.mean(axis=1).max() - 0.8)
        corrected.append((out_of_bag_value(epochs) or 0.0) - 0.8)
    assert np.mean(best) > 0.03
    assert abs(np.mean(corrected)) < 0.01
