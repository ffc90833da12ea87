"""Projected gains: the expected final value of a stopped trial, from its last report."""

import pytest

from tune_app.sampling.projection import Reported, gains_to_end


def test_a_stopped_trial_gains_what_those_gained_that_went_on() -> None:
    complete = [Reported({1: 0.50, 3: 0.60}, final=0.70), Reported({1: 0.60, 3: 0.80}, final=0.80)]
    stopped = [Reported({1: 0.40}), Reported({1: 0.55, 3: 0.75})]
    # Gains from step 1 to 3: 0.10, 0.20 and 0.20; from step 3 to the end: 0.10 and 0.
    assert gains_to_end([*complete, *stopped]) == pytest.approx({1: 0.5 / 3 + 0.05, 3: 0.05})


def test_a_rung_that_no_trial_left_adds_nothing() -> None:
    assert gains_to_end([Reported({1: 0.5}), Reported({1: 0.4, 2: 0.3})]) == pytest.approx({1: -0.1, 2: 0.0})
    assert gains_to_end([Reported({2: 0.5}), Reported({3: 0.4}, final=0.4)]) == {2: 0.0}


def test_complete_trials_alone_have_nothing_to_gain() -> None:
    assert gains_to_end([Reported({1: 0.5}, final=0.5)]) == {}
    assert gains_to_end([]) == {}
