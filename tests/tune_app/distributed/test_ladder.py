"""Decisions at a rung: the best trials continue, those with a chance wait, the others are stopped."""

import math

import pytest

from tune_app.distributed.ladder import Ladder, Rung, Verdict

GO, WAIT, STOP = Verdict.GO, Verdict.WAIT, Verdict.STOP


def filled(values: list[float], factor: int = 3, *, pauses: bool = True) -> tuple[Ladder, Rung]:
    ladder = Ladder([1, 3], factor, pauses=pauses)
    for number, value in enumerate(values):
        ladder.add(number, 1, value)
    return ladder, ladder.rungs[0]


def verdicts(values: list[float], factor: int = 3, *, is_final: bool = False) -> list[Verdict]:
    ladder, rung = filled(values, factor)
    return [ladder.verdict(rung, number, is_final=is_final) for number in range(len(values))]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.9], [WAIT]),
        ([0.9, 0.1], [WAIT, WAIT]),
        ([0.1, 0.9, 0.5], [WAIT, GO, WAIT]),
        ([0.1, 0.9, 0.5, 0.8, 0.7, 0.6], [STOP, GO, WAIT, GO, WAIT, WAIT]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [GO, GO, GO, WAIT, WAIT, WAIT, STOP, STOP, STOP]),
    ],
)
def test_a_rung_is_filled_before_its_best_third_goes_on(values: list[float], expected: list[Verdict]) -> None:
    assert verdicts(values) == expected


def test_a_rung_that_gets_no_more_trials_lets_at_least_one_go_and_stops_the_rest() -> None:
    assert verdicts([0.9], is_final=True) == [GO]
    assert verdicts([0.1, 0.9], is_final=True) == [STOP, GO]
    assert verdicts([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], is_final=True) == [GO, GO, STOP, STOP, STOP, STOP]


def test_the_earlier_of_equal_trials_goes_first_and_a_nan_comes_last() -> None:
    assert verdicts([0.5, 0.5, 0.5]) == [GO, WAIT, WAIT]
    assert verdicts([math.nan, 0.1, math.nan]) == [WAIT, GO, WAIT]


def test_trials_that_cannot_wait_are_judged_as_they_come() -> None:
    came = []
    ladder = Ladder([1], 3, pauses=False)
    for number, value in enumerate([0.5, 0.4, 0.6, 0.55, 0.1]):
        rung = ladder.add(number, 1, value)
        assert rung is not None
        came.append(ladder.verdict(rung, number))
    assert came == [GO, STOP, GO, GO, STOP]


def test_a_report_reaches_the_highest_rung_that_it_passes_and_each_rung_once() -> None:
    ladder = Ladder([2, 4, 8], 2)
    assert ladder.add(0, 1, 0.5) is None
    reached = ladder.add(0, 2, 0.5)
    assert (reached and reached.step) == 2
    assert ladder.add(0, 3, 0.6) is None
    skipped = ladder.add(0, 9, 0.7)
    assert (skipped and skipped.step) == 8
    assert [rung.values for rung in ladder.rungs] == [{0: 0.5}, {0: 0.7}, {0: 0.7}]


def test_few_trials_wait_however_many_came() -> None:
    for factor in (2, 3, 4):
        values = [number / 200 for number in range(200)]
        found = verdicts(values, factor)
        assert found.count(GO) == 200 // factor
        assert found.count(WAIT) <= factor + 1
