"""Rungs: the optimizer steps within an epoch at which a trial reports, and the rows that score it there."""

import numpy as np
from numpy.typing import NDArray


def rung_end(rung: int, per_epoch: int, steps_per_epoch: int) -> int:
    """Return the number of an epoch's optimizer steps up to its ``rung``-th rung, counted from 1; at least 1."""
    return -(-steps_per_epoch * rung // per_epoch)


def sample_rows(rows: NDArray[np.int64], labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return ``count`` of the rows, ascending, drawn from ``seed`` alone; all rows if there are no more.

    Each class gets a row, rare classes first, and then its share of the rest.

    Args:
        rows: row numbers (n,).
        labels: labels of all rows of the data, indexed by row number.
    """
    if count >= len(rows):
        return rows
    drawn = np.random.default_rng(seed).permutation(rows)
    _, class_of, sizes = np.unique(labels[drawn], return_inverse=True, return_counts=True)
    # The i-th of a class's n rows gets position i/n, so that any prefix holds its share of every class.
    by_class = np.argsort(class_of, kind="stable")
    position = np.empty(len(drawn))
    position[by_class] = np.concatenate([np.arange(size) / size for size in sizes])
    return np.sort(drawn[np.lexsort((sizes[class_of], position))[:count]])
