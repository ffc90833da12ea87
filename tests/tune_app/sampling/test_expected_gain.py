"""Expected gain of further trials, and the end of a search by it."""

import numpy as np
import pytest

from search_spaces.space import parse_space
from tune_app.outcomes import Outcome
from tune_app.sampling.expected_gain import (
    LEAST_TRIALS,
    expected_gain,
    final_values,
    trials_until_pointless,
    why_pointless,
)
from tune_app.study.record import StudyRecord
from tune_app.study.store import StudyStore, study_in_memory


def study(values: list[float]) -> StudyStore:
    space = parse_space({"optim.lr": {"low": 0.0, "high": 1.0}})
    store = study_in_memory(StudyRecord(space, "criteria", "macro_f1", "max", "data"))
    for position, value in enumerate(values):
        number = store.open_trial({"optim.lr": position / 100}, {})
        store.report(number, 1, value)
        store.close_trial(number, Outcome.COMPLETE, value=value)
    return store


def test_the_expected_gain_is_that_of_drawn_trials() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.8, 0.02, size=60)
    latest = values[-30:]
    draws = rng.normal(latest.mean(), latest.std(ddof=1), size=(40_000, 12)).max(axis=1)
    expected = np.maximum(0, draws - 0.84).mean()
    assert expected_gain(list(values), 0.84, 12) == pytest.approx(expected, rel=0.05)
    assert expected_gain(list(values), 0.84, 0) == 0


def test_the_gain_rises_with_the_trials_left_and_falls_with_the_best() -> None:
    values = list(np.random.default_rng(1).normal(size=40))
    assert expected_gain(values, 2.0, 5) < expected_gain(values, 2.0, 50) < expected_gain(values, 1.0, 50)


def test_a_search_whose_trials_are_alike_ends_and_one_that_still_varies_goes_on() -> None:
    rng = np.random.default_rng(2)
    alike = study(list(rng.normal(0.8, 0.001, size=20)))
    why = why_pointless(alike.trials(), noise=0.01, more=10)
    assert why is not None
    assert "search.stop=auto" in why
    assert why_pointless(study(list(rng.normal(0.8, 0.05, size=20))).trials(), noise=0.001, more=200) is None


def test_a_young_search_never_ends_by_its_gain() -> None:
    assert why_pointless(study([0.8] * (LEAST_TRIALS - 1)).trials(), noise=0.1, more=10) is None
    assert why_pointless(study([0.8] * LEAST_TRIALS).trials(), noise=0.1, more=10) is not None


def test_the_trials_after_which_the_rest_is_pointless_are_found() -> None:
    values = list(np.random.default_rng(3).normal(0.8, 0.02, size=40))
    further = trials_until_pointless(values, 0.82, 0.01, 30)
    assert 0 < further < 30
    assert expected_gain(values, 0.82, 30 - further) < 0.01 <= expected_gain(values, 0.82, 31 - further)


def test_a_stopped_trial_counts_with_its_projected_value() -> None:
    store = study([0.9, 0.8])
    number = store.open_trial({"optim.lr": 0.5}, {})
    store.report(number, 1, 0.4)
    store.close_trial(number, Outcome.STOPPED)
    assert final_values(store.trials())[:2] == [0.9, 0.8]
    assert final_values(store.trials())[2] == pytest.approx(0.4)
