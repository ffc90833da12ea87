"""Probing: few points from a good prediction, at most four from a bad one, and never a size that did not fit."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from trainables.planning.probe import MOST_POINTS, probe

HEADROOM = 0.1


@dataclass
class Need:
    """Bytes by rows: a fixed part and a part per row.

    ``least`` is another peak, which may hide them.
    """

    fixed: int
    per_row: int
    least: int = 0

    def __call__(self, rows: int) -> int:
        return max(self.least, self.fixed + self.per_row * rows)

    def largest(self, allowed: float, most: int) -> int:
        return max((rows for rows in range(1, most + 1) if self(rows) <= allowed), default=0)


@dataclass
class Machine:
    """Measurement that gives the true need, and runs out of memory at the budget, which exceeds the allowed bytes."""

    need: Callable[[int], float]
    allowed: float
    tried: list[int] = field(default_factory=list)

    def __call__(self, rows: int) -> float | None:
        self.tried.append(rows)
        peak = self.need(rows)
        return None if peak > self.allowed / (1 - HEADROOM) else peak


def allowed_by(predicted: Callable[[int], float], allowed: float, factor: float, most: int) -> int:
    """Return the most rows that predictions allow, corrected as a fit corrects them."""
    return max((rows for rows in range(1, most + 1) if predicted(rows) <= allowed / factor), default=0)


needs = st.builds(Need, st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 10**6))
mosts = st.integers(1, 300)
shares = st.floats(0.0, 1.2)


def limit(need: Need, share: float) -> int:
    """Return an allowance that holds anything from no row to more than 200 rows."""
    return need.fixed + int(share * 200 * need.per_row) + 1


@given(need=needs, most=mosts, share=shares, error=st.floats(0.5, 2.0), offset=st.integers(-(10**5), 10**5))
@examples(max_examples=300, derandomize=True, deadline=None)
def test_whatever_the_prediction_what_is_found_was_measured_to_fit_in_four_points_at_most(
    need: Need, most: int, share: float, error: float, offset: int
) -> None:
    def predicted(rows: int) -> float:
        return max(1.0, need(rows) * error + offset)

    machine = Machine(need, limit(need, share))
    found = probe(predicted, machine, allowed=machine.allowed, most=most)
    assert found.points == len(machine.tried) <= MOST_POINTS
    assert len(set(machine.tried)) == found.points
    assert all(1 <= rows <= most for rows in machine.tried)
    fitted = [rows for rows in machine.tried if need(rows) <= machine.allowed]
    assert found.rows == max(fitted, default=0)
    if not fitted:
        # A single row was tried before giving up.
        assert 1 in machine.tried


@given(need=needs, most=mosts, share=shares, error=st.floats(0.5, 2.0), offset=st.integers(-(10**5), 10**5))
@examples(max_examples=300, derandomize=True, deadline=None)
def test_the_factor_makes_predictions_allow_just_what_was_found(
    need: Need, most: int, share: float, error: float, offset: int
) -> None:
    def predicted(rows: int) -> float:
        return max(1.0, need(rows) * error + offset)

    machine = Machine(need, limit(need, share))
    found = probe(predicted, machine, allowed=machine.allowed, most=most)
    if found.rows == 0:
        assert allowed_by(predicted, machine.allowed, found.factor, most) <= 1
    elif found.rows == most or predicted(found.rows) < predicted(found.rows + 1):
        assert allowed_by(predicted, machine.allowed, found.factor, most) == found.rows
    else:
        # The prediction gives both row counts the same need.
        assert allowed_by(predicted, machine.allowed, found.factor, most) > found.rows


@given(need=needs, most=mosts, share=shares)
@examples(max_examples=300, derandomize=True, deadline=None)
def test_an_exact_prediction_takes_one_point_and_finds_the_exact_maximum(need: Need, most: int, share: float) -> None:
    machine = Machine(need, limit(need, share))
    best = need.largest(machine.allowed, most)
    found = probe(need, machine, allowed=machine.allowed, most=most)
    assert (found.rows, found.points) == (best, 1)
    assert found.factor == pytest.approx(1.0) or best < most


@given(
    need=needs,
    most=mosts,
    share=st.floats(0.05, 1.2),
    error=st.floats(0.9, 1.1),
    offset=st.floats(-0.02, 0.02),
)
@examples(max_examples=400, derandomize=True, deadline=None)
def test_nine_tenths_of_the_maximum_are_found_by_predictions_within_a_tenth(
    need: Need, most: int, share: float, error: float, offset: float
) -> None:
    machine = Machine(need, limit(need, share))
    error = min(1.1 - max(0.0, offset), max(0.9 - min(0.0, offset), error))

    def predicted(rows: int) -> float:
        return max(1.0, need(rows) * error + offset * need(1))

    best = need.largest(machine.allowed, most)
    found = probe(predicted, machine, allowed=machine.allowed, most=most)
    # With few rows, one row less may be below 90 %.
    assert found.rows >= min(0.9 * best, best - 1)
    assert found.points <= 3


@pytest.mark.parametrize("error", [0.5, 0.6, 0.7, 0.8, 1.3, 2.0])
def test_a_bad_prediction_costs_points_not_rows(error: float) -> None:
    need = Need(10_000, 700)
    machine = Machine(need, need(80))
    found = probe(lambda rows: error * need(rows), machine, allowed=machine.allowed, most=512)
    assert found.rows >= 0.9 * 80
    assert 1 < found.points <= MOST_POINTS


def test_nothing_is_tried_beyond_what_is_wanted() -> None:
    machine = Machine(Need(100, 1), 10**6)
    found = probe(machine.need, machine, allowed=machine.allowed, most=24)
    assert (found.rows, machine.tried) == (24, [24])
    # No limit on memory stops more rows here, so the factor comes from the measurement alone.
    assert found.factor == pytest.approx(1.0)


def test_half_way_is_tried_where_a_correction_would_try_the_same_again() -> None:
    # A size that fits needs half of its prediction, but a cliff follows soon.
    machine = Machine(lambda rows: 10 * rows if rows <= 60 else 10**6, 1000)
    found = probe(lambda rows: 20 * rows, machine, allowed=1000, most=512)
    assert machine.tried == [50, 100, 75, 62]
    assert found.rows == 50
    assert allowed_by(lambda rows: 20 * rows, 1000, found.factor, 512) == 50


def test_a_failure_does_not_take_back_what_was_measured_to_fit() -> None:
    machine = Machine(lambda rows: 8 * rows if rows <= 100 else 11 * rows, 1000)
    found = probe(lambda rows: 10 * rows, machine, allowed=1000, most=512)
    assert found.rows == 100
    assert allowed_by(lambda rows: 10 * rows, 1000, found.factor, 512) == 100


def test_an_earlier_correction_is_where_it_starts() -> None:
    machine = Machine(Need(0, 15), 1000)
    found = probe(lambda rows: 10 * rows, machine, allowed=1000, most=512, factor=1.5)
    assert machine.tried == [66] == [found.rows]


def test_fewer_points_may_be_asked_for_and_then_too_the_last_one_is_a_row() -> None:
    machine = Machine(Need(0, 30), 1000)
    found = probe(lambda rows: 10 * rows, machine, allowed=1000, most=512, most_points=2)
    assert machine.tried == [100, 1]
    assert found.rows == 1
