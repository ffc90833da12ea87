"""Effective batches and micro-batches: every row once, whatever the numbers."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from trainables.training.split import (
    PASS_COST_TOKENS,
    RowLimits,
    effective_batches,
    micro_batches,
    most_inputs,
    steps_per_epoch,
)

LENGTHS = np.random.default_rng(0).integers(3, 60, size=300)


def at_most(rows: int, alone: int | None = None) -> RowLimits:
    """Return limits of so many rows a pass, whatever their length."""
    limit = np.full(100, rows)
    return RowLimits(limit if alone is None else np.full(100, alone), limit, limit)


def tokens(most: int) -> RowLimits:
    """Return limits of so many tokens a pass."""
    limit = np.maximum(1, most // np.maximum(1, np.arange(100)))
    return RowLimits(limit, limit, limit)


def computed(pieces: list[np.ndarray], lengths: np.ndarray) -> int:
    """Return the tokens that the passes compute, plus the fixed cost of every pass in tokens."""
    return sum(len(piece) * int(lengths[piece].max()) + PASS_COST_TOKENS for piece in pieces)


def test_128_rows_where_57_fit_are_128_rows() -> None:
    pieces = micro_batches(np.arange(128), LENGTHS, at_most(57))
    assert sorted(np.concatenate(pieces).tolist()) == list(range(128))
    assert max(len(piece) for piece in pieces) <= 57


@given(
    lengths=st.lists(st.integers(1, 99), min_size=1, max_size=60),
    most=st.integers(1, 2000),
    by_rows=st.booleans(),
)
@examples(max_examples=200, derandomize=True, deadline=None)
def test_every_row_comes_once_and_every_pass_is_within_its_limit(lengths: list[int], most: int, by_rows: bool) -> None:
    limits = at_most(most) if by_rows else tokens(most)
    sizes = np.array(lengths)
    pieces = micro_batches(np.arange(len(sizes)), sizes, limits)
    assert sorted(np.concatenate(pieces).tolist()) == list(range(len(sizes)))
    for piece in pieces:
        assert len(piece) <= limits.accumulating[sizes[piece].max()]
    longest = [int(sizes[piece].max()) for piece in pieces]
    assert longest == sorted(longest, reverse=True)
    assert [int(sizes[piece[0]]) for piece in pieces] == longest


def cheapest(lengths: list[int], limits: RowLimits) -> int:
    """Return the lowest cost of all ways to split the sorted rows."""
    rows = sorted(lengths)
    ways = [
        [0, *(place for place in range(1, len(rows)) if cuts >> (place - 1) & 1), len(rows)]
        for cuts in range(2 ** (len(rows) - 1))
    ]
    costs = []
    for way in ways:
        pieces = [rows[start:end] for start, end in pairwise(way)]
        if all(len(piece) <= limits.accumulating[piece[-1]] for piece in pieces):
            costs.append(sum(len(piece) * piece[-1] + PASS_COST_TOKENS for piece in pieces))
    return min(costs)


@given(lengths=st.lists(st.integers(1, 99), min_size=1, max_size=9), most=st.integers(1, 400))
@examples(max_examples=100, derandomize=True, deadline=None)
def test_no_other_cut_computes_fewer_tokens(lengths: list[int], most: int) -> None:
    limits = tokens(most)
    pieces = micro_batches(np.arange(len(lengths)), np.array(lengths), limits)
    assert computed(pieces, np.array(lengths)) == cheapest(lengths, limits)


def test_a_step_of_one_pass_may_hold_more_than_a_pass_among_several() -> None:
    alike = np.full(40, 30)
    assert len(micro_batches(np.arange(40), alike, at_most(20, alone=40))) == 1
    assert len(micro_batches(np.arange(40), alike, at_most(20, alone=39))) == 2


def test_one_pass_is_not_made_where_several_compute_less() -> None:
    uneven = np.array([5] * 50 + [90] * 2)
    pieces = micro_batches(np.arange(52), uneven, at_most(52))
    assert [len(piece) for piece in pieces] == [2, 50]


def test_several_passes_are_not_made_for_fewer_tokens_where_no_row_fits_beside_the_gradients() -> None:
    uneven = np.array([5] * 50 + [90] * 2)
    nothing_beside = RowLimits(np.full(100, 60), np.where(np.arange(100) < 50, 3, 0), np.full(100, 60))
    assert len(micro_batches(np.arange(52), uneven, nothing_beside)) == 1
    # Rows that do not fit in one pass are split row by row.
    cut = micro_batches(np.arange(52), uneven, nothing_beside.with_smaller_passes(52, 90))
    assert [len(piece) for piece in cut[:3]] == [1, 1, 3]
    assert nothing_beside.with_smaller_passes(3, 10).accumulating.tolist() == [1] * 50 + [0] * 50


def test_a_pass_that_failed_is_never_allowed_again_and_others_shrink_with_it() -> None:
    before = tokens(2000)
    after = before.with_smaller_passes(20, 50)
    assert (after.alone[50], after.accumulating[50]) == (10, 10)
    assert after.accumulating[25] == before.accumulating[25] * 10 // before.accumulating[50]
    assert (after.evaluation == before.evaluation).all()
    assert after.with_smaller_passes(2, 99).accumulating.min() == 1
    shrunk = before.with_smaller_evaluation(20, 50)
    assert shrunk.evaluation[50] == 10
    assert (shrunk.alone == before.alone).all()


def test_a_pass_smaller_than_its_limit_shrinks_to_its_own_half() -> None:
    assert at_most(64).with_smaller_passes(12, 50).accumulating[50] == 6


@given(rows=st.integers(1, 200), effective_batch=st.integers(1, 210), seed=st.integers(0, 10))
@examples(max_examples=100, derandomize=True, deadline=None)
def test_an_epoch_covers_every_row_once(rows: int, effective_batch: int, seed: int) -> None:
    part = np.arange(rows) * 3
    batches = list(effective_batches(part, effective_batch, np.random.default_rng(seed)))
    assert sorted(np.concatenate(batches).tolist()) == part.tolist()
    assert {len(batch) for batch in batches[:-1]} <= {effective_batch}
    assert 1 <= len(batches[-1]) <= effective_batch
    assert len(batches) == steps_per_epoch(rows, effective_batch)


def test_the_seed_alone_decides_the_order() -> None:
    first, again, other = (
        np.concatenate(list(effective_batches(np.arange(50), 8, np.random.default_rng(seed)))).tolist()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first != sorted(first)


def test_rows_are_shuffled_before_they_are_batched_not_after() -> None:
    small, large = (
        np.concatenate(list(effective_batches(np.arange(50), size, np.random.default_rng(1)))).tolist()
        for size in (8, 25)
    )
    assert small == large


def test_the_most_inputs_of_a_step_are_those_of_its_longest_rows() -> None:
    assert most_inputs(np.array([1, 3, 1, 2]), 2) == 5
    assert most_inputs(np.ones(4, dtype=np.int64), 3) == 3
    assert most_inputs(np.array([1, 2]), 5) == 3, "there are no more"
