"""Cuts an effective batch into micro-batches, exactly, for every whole number.

Rows keep no order inside an effective batch, so it is sorted by length first: rows of like length pad each other least,
and the sum of their losses, hence the gradient, is the same in any order.
"""

from collections.abc import Iterator, Sequence

import numpy as np


def effective_batches(rows: np.ndarray, effective_batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One epoch: the rows in a random order, ``effective_batch`` at a time, the last one as large as what is left."""
    shuffled = rng.permutation(rows)
    for start in range(0, len(shuffled), effective_batch):
        yield shuffled[start : start + effective_batch]


def steps_per_epoch(rows: int, effective_batch: int) -> int:
    """Optimizer steps in one epoch."""
    return -(-rows // effective_batch)


def micro_batches(batch: np.ndarray, lengths: np.ndarray, most: int) -> list[np.ndarray]:
    """Cut one effective batch into the fewest micro-batches of at most ``most`` rows, as even as can be.

    128 rows where 57 fit become 43 + 43 + 42: every row once, never 3 × 57 or 2 × 57.

    Args:
        batch: row numbers (n,), n ≥ 1.
        lengths: tokens of every row of the data, indexed by row number.
        most: rows that fit at once, ≥ 1.

    Raises:
        ValueError: ``most`` is below 1.
    """
    if most < 1:
        raise ValueError(f"a micro-batch holds at least one row, not {most}")
    by_length = batch[np.argsort(-lengths[batch], kind="stable")]
    pieces: Sequence[np.ndarray] = np.array_split(by_length, -(-len(batch) // most))
    return list(pieces)
