"""Rungs: their positions in an epoch, and the rows that score a trial there."""

import numpy as np
import pytest

from trainables.training.rungs import rung_end, sample_rows

LABELS = np.array([0] * 70 + [1] * 25 + [2] * 5).repeat(2)
# The rows with even numbers of a data set of 200.
ROWS = np.arange(0, 200, 2)


@pytest.mark.parametrize(
    ("steps", "per_epoch", "ends"),
    [(8, 4, [2, 4, 6, 8]), (10, 4, [3, 5, 8, 10]), (3, 4, [1, 2, 3, 3]), (1, 3, [1, 1, 1]), (7, 1, [7])],
)
def test_rungs_are_evenly_spaced_and_the_last_is_the_epochs_end(steps: int, per_epoch: int, ends: list[int]) -> None:
    assert [rung_end(rung, per_epoch, steps) for rung in range(1, per_epoch + 1)] == ends


@pytest.mark.parametrize(
    ("count", "of_class"), [(20, [14, 5, 1]), (40, [28, 10, 2]), (4, [2, 1, 1]), (3, [1, 1, 1]), (1, [0, 0, 1])]
)
def test_a_sample_holds_every_class_and_their_shares(count: int, of_class: list[int]) -> None:
    sample = sample_rows(ROWS, LABELS, count, seed=3)
    assert len(set(sample.tolist())) == count
    assert set(sample.tolist()) <= set(ROWS.tolist())
    assert sample.tolist() == sorted(sample.tolist())
    assert np.bincount(LABELS[sample], minlength=3).tolist() == of_class


def test_a_sample_depends_on_its_seed_alone() -> None:
    one, again, other = (sample_rows(ROWS, LABELS, 20, seed).tolist() for seed in (3, 3, 4))
    assert one == again != other


@pytest.mark.parametrize("count", [100, 1000])
def test_a_sample_of_as_many_rows_as_there_are_is_all_of_them(count: int) -> None:
    assert sample_rows(ROWS, LABELS, count, seed=3).tolist() == ROWS.tolist()
