"""Cuts an effective batch into micro-batches by what they need, exactly, for every whole number.

Rows keep no order inside an effective batch, so it is sorted by length first: rows of like length pad each other least,
and the sum of their losses, hence the gradient, is the same in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

PASS_COST_TOKENS = 64
"""What a pass costs beside its tokens, in tokens: so many more of them are padded rather than another pass made."""


@dataclass(frozen=True)
class RowLimits:
    """How many rows one pass may hold: arrays (longest + 1,), indexed by the tokens that rows are padded to.

    No entry is larger than one for fewer tokens.

    Attributes:
        alone: in the only pass of a step; at least 1.
        accumulating: in a step of several passes, beside all gradients; 0 where not even one row should fit there. That
            is tried only where a single pass does not hold all.
        evaluation: in an evaluation pass; at least 1.
    """

    alone: np.ndarray
    accumulating: np.ndarray
    evaluation: np.ndarray

    def micro_batch(self, effective_batch: int, length: int) -> int:
        """The largest micro-batch of rows that are all of ``length`` tokens."""
        if self.alone[length] >= effective_batch:
            return effective_batch
        return min(effective_batch, max(1, int(self.accumulating[length])))

    def with_smaller_passes(self, rows: int, length: int) -> "RowLimits":
        """Limits under which a step's largest pass, which held ``rows`` ≥ 2 of ``length`` tokens, holds half of them.

        All lengths are limited in proportion.
        """
        # Whichever of the two the step was cut by, neither may allow that pass again.
        return replace(
            self,
            alone=_shrunk(self.alone, rows, length),
            accumulating=_shrunk(self.accumulating, rows, length),
        )

    def with_smaller_evaluation(self, rows: int, length: int) -> "RowLimits":
        """The same for a pass of evaluation."""
        return replace(self, evaluation=_shrunk(self.evaluation, rows, length))


def _shrunk(limits: np.ndarray, rows: int, length: int) -> np.ndarray:
    half, now = rows // 2, int(limits[length])
    return limits if now <= half else np.minimum(limits, np.maximum(1, limits * half // now))


def effective_batches(rows: np.ndarray, effective_batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One epoch: the rows in a random order, ``effective_batch`` at a time, the last one as large as what is left."""
    shuffled = rng.permutation(rows)
    for start in range(0, len(shuffled), effective_batch):
        yield shuffled[start : start + effective_batch]


def steps_per_epoch(rows: int, effective_batch: int) -> int:
    """Optimizer steps in one epoch."""
    return -(-rows // effective_batch)


def most_inputs(counts: np.ndarray, effective_batch: int) -> int:
    """The most inputs that an effective batch can come to, its rows taking so many each, counts (rows,).

    Of fewer rows than the batch a step takes all there are.
    """
    return int(np.sort(counts)[-effective_batch:].sum())


def micro_batches(batch: np.ndarray, lengths: np.ndarray, limits: RowLimits) -> list[np.ndarray]:
    """Cut one effective batch into the micro-batches that compute the fewest tokens, every row once.

    A dynamic programme over the rows sorted by length: a pass computes its rows × the longest of them, and costs
    ``PASS_COST_TOKENS`` beside that. Filling passes one after the other as full as they get is clearly worse.

    Args:
        batch: row numbers (n,), n ≥ 1.
        lengths: tokens of every row of the data, indexed by row number.

    Returns:
        Row numbers per micro-batch, the longest rows first, so that memory is at its highest early.
    """
    rows = batch[np.argsort(lengths[batch], kind="stable")]
    tokens = lengths[rows].astype(np.int64)
    count = len(rows)
    most = np.maximum(1, limits.accumulating[tokens]).tolist()
    numbers = np.arange(count, dtype=np.int64)
    # cost[n]: of the shortest n rows, cut in the best way; ``before[n]`` rows of them come before its last pass.
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
