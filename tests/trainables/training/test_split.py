"""Effective batches and micro-batches: every row once, whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from trainables.training.split import effective_batches, micro_batches, steps_per_epoch

LENGTHS = np.random.default_rng(0).integers(3, 60, size=300)


def test_128_rows_where_57_fit_become_three_even_pieces() -> None:
    pieces = micro_batches(np.arange(128), LENGTHS, most=57)
    assert [len(piece) for piece in pieces] == [43, 43, 42]


@given(rows=st.integers(1, 300), most=st.integers(1, 310))
@examples(max_examples=100, derandomize=True, deadline=None)
def test_a_batch_is_cut_into_the_fewest_even_pieces_that_fit(rows: int, most: int) -> None:
    pieces = micro_batches(np.arange(rows), LENGTHS, most)
    sizes = [len(piece) for piece in pieces]
    assert sorted(np.concatenate(pieces).tolist()) == list(range(rows))
    assert len(sizes) == -(-rows // most)
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


def test_rows_of_like_length_share_a_micro_batch_and_the_longest_come_first() -> None:
    lengths = [LENGTHS[piece] for piece in micro_batches(np.arange(100), LENGTHS, most=30)]
    assert np.concatenate(lengths).tolist() == sorted(LENGTHS[:100].tolist(), reverse=True)


def test_no_micro_batch_holds_less_than_one_row() -> None:
    with pytest.raises(ValueError, match="at least one row, not 0"):
        micro_batches(np.arange(4), LENGTHS, most=0)


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
