"""Exact cuts of an effective batch into micro-batches, by their memory needs, for every batch size.

The order of rows inside an effective batch is free, so it is sorted by length first. Rows of similar length need the
least padding, and the sum of their losses, hence the gradient, is the same in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

PASS_COST_TOKENS = 64
"""Cost of a pass beside its tokens, in tokens: up to this much extra padding is cheaper than another pass."""


@dataclass(frozen=True)
class RowLimits:
    """The most rows that one pass may hold: arrays (longest + 1,), indexed by the padded length in tokens.

    No entry is larger than one for fewer tokens.

    Attributes:
        alone: limit for the only pass of a step; at least 1.
        accumulating: limit for a step of several passes, beside all gradients; 0 if not even one row should fit. Even
            then one row is tried if a single pass cannot hold all rows.
        evaluation: limit for an evaluation pass; at least 1.
    """

    alone: np.ndarray
    accumulating: np.ndarray
    evaluation: np.ndarray

    def micro_batch(self, effective_batch: int, length: int) -> int:
        """Return the largest micro-batch of rows that all have ``length`` tokens."""
        if self.alone[length] >= effective_batch:
            return effective_batch
        return min(effective_batch, max(1, int(self.accumulating[length])))

    def with_smaller_passes(self, rows: int, length: int) -> "RowLimits":
        """Return limits that halve a step's largest pass, which held ``rows`` ≥ 2 of ``length`` tokens.

        All lengths are limited in proportion.
        """
        # Whichever limit cut the step, neither may allow that pass again.
        return replace(
            self,
            alone=halved(self.alone, rows, length),
            accumulating=halved(self.accumulating, rows, length),
        )

    def with_smaller_evaluation(self, rows: int, length: int) -> "RowLimits":
        """Return limits that halve an evaluation pass, which held ``rows`` ≥ 2 of ``length`` tokens."""
        return replace(self, evaluation=halved(self.evaluation, rows, length))


def halved(limits: np.ndarray, rows: int, length: int) -> np.ndarray:
    """Return row limits by length that halve a pass of ``rows`` ≥ 2 of ``length`` tokens; all lengths in proportion."""
    half, now = rows // 2, int(limits[length])
    return limits if now <= half else np.minimum(limits, np.maximum(1, limits * half // now))


def effective_batches(rows: np.ndarray, effective_batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield one epoch's rows in random order, ``effective_batch`` at a time; the last batch holds the rest."""
    shuffled = rng.permutation(rows)
    for start in range(0, len(shuffled), effective_batch):
        yield shuffled[start : start + effective_batch]


def steps_per_epoch(rows: int, effective_batch: int) -> int:
    """Return the number of optimizer steps in one epoch."""
    return -(-rows // effective_batch)


def most_inputs(counts: np.ndarray, effective_batch: int) -> int:
    """Return the most inputs of any effective batch, given the inputs of each row, counts (rows,).

    If there are fewer rows than the batch, a step takes all of them.
    """
    return int(np.sort(counts)[-effective_batch:].sum())


def micro_batches(batch: np.ndarray, lengths: np.ndarray, limits: RowLimits) -> list[np.ndarray]:
    """Cut one effective batch into the micro-batches that compute the fewest tokens, every row once.

    A dynamic programme runs over the rows sorted by length. A pass computes its rows × its longest row, and costs
    ``PASS_COST_TOKENS`` in addition. Filling one pass after the other is clearly worse.

    Args:
        batch: row numbers (n,), n ≥ 1.
        lengths: number of tokens of every row of the data, indexed by row number.

    Returns:
        Row numbers per micro-batch, the longest rows first, so that memory peaks early.
    """
    rows = batch[np.argsort(lengths[batch], kind="stable")]
    tokens = lengths[rows].astype(np.int64)
    count = len(rows)
    most = np.maximum(1, limits.accumulating[tokens]).tolist()
    numbers = np.arange(count, dtype=np.int64)
    # cost[n] is the cost of the shortest n rows in the best cut; before[n] of them precede its last pass.
    cost = np.zeros(count + 1, dtype=np.int64)
    before = [0] * (count + 1)
    for end, longest in enumerate(tokens.tolist(), start=1):
        first = max(0, end - most[end - 1])
        saved = cost[first:end] - numbers[first:end] * longest
        best = int(saved.argmin())
        before[end] = first + best
        cost[end] = saved[best] + end * longest + PASS_COST_TOKENS
    in_one = count * int(tokens[-1]) + PASS_COST_TOKENS
    several_fit = limits.accumulating[tokens[-1]] > 0
    if count <= limits.alone[tokens[-1]] and (in_one <= cost[count] or not several_fit):
        return [rows[::-1].copy()]
    pieces, end = [], count
    while end > 0:
        pieces.append(rows[before[end] : end][::-1].copy())
        end = before[end]
    return pieces
