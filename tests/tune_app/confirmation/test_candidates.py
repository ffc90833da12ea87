"""Candidates of a confirmation: the leaders, and the recommended configuration beside them."""

from typing import Any

import pytest

from search_spaces.rules import Sample, Violation
from tune_app.confirmation.candidates import candidates_of
from tune_app.errors import UserError
from tune_app.outcomes import Outcome


def numbers(searched: Any, top: int, rules: Any = ()) -> list[tuple[int | None, bool]]:
    return [(who.number, who.is_recommended) for who in candidates_of(searched.store, searched.config, top, rules)]


def test_the_leaders_come_first_and_the_recommended_trial_behind_them(searched: Any) -> None:
    recommended = searched.complete(3e-4, 0.5, is_recommended=True)
    searched.complete(1e-3, 0.6)
    best, second = searched.complete(2e-3, 0.9), searched.complete(3e-3, 0.8)
    assert numbers(searched, 2) == [(best, False), (second, False), (recommended, True)]
    assert numbers(searched, 4)[-1] == (recommended, True)
    assert len(numbers(searched, 5)) == 4


def test_equal_configurations_are_one_candidate(searched: Any) -> None:
    best = searched.complete(1e-3, 0.9)
    searched.complete(1e-3, 0.8)
    assert [number for number, _ in numbers(searched, 5)] == [best, None]


def test_a_search_without_a_recommended_trial_gets_the_spaces_own_recommendation(searched: Any) -> None:
    searched.complete(5e-3, 0.9)
    other = candidates_of(searched.store, searched.config, 1, ())[-1]
    assert (other.number, other.is_recommended, other.value) == (None, True, None)
    assert other.params == {"optim.lr": pytest.approx(3e-4), "train.batch_size": 32}


def test_a_recommendation_that_cannot_run_is_passed_over(searched: Any) -> None:
    class NothingRuns:
        name = "nothing"

        def check(self, sample: Sample) -> Violation:
            return Violation("nothing", "never", 1.0)

    searched.complete(5e-3, 0.9)
    assert len(candidates_of(searched.store, searched.config, 1, [NothingRuns()])) == 1


def test_without_a_complete_trial_there_is_nothing_to_confirm(searched: Any) -> None:
    number = searched.store.open_trial({"optim.lr": 1e-3, "train.batch_size": 16}, {})
    searched.store.close_trial(number, Outcome.FAILED, reason="broken")
    with pytest.raises(
        UserError, match=r"^searched: holds no complete trial, so there is nothing to confirm; headroom"
    ):
        candidates_of(searched.store, searched.config, 5, ())


def test_several_objectives_have_no_winner_to_confirm(searched_for_two: Any) -> None:
    searched_for_two.complete(1e-3, 0.9, 1.0)
    with pytest.raises(UserError, match=r"search.metric names 2 objectives, whose front has no single winner"):
        numbers(searched_for_two, 5)
