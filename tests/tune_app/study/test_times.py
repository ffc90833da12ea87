"""Times of a trial by activity, over interruptions too."""

from datetime import datetime
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_app.outcomes import Outcome
from tune_app.study.times import CLOCK_ATTRIBUTE, Doing, TrialClock, taken_up, working_s

START = datetime(2024, 1, 1).timestamp()


def open_trial(**attributes: Any) -> FrozenTrial:
    trial = create_trial(state=TrialState.RUNNING, user_attrs=attributes)
    trial.datetime_start = datetime.fromtimestamp(START)
    return trial


def test_a_clock_counts_what_a_trial_does_and_its_seconds_add_up() -> None:
    clock = taken_up(open_trial(), START)
    clock.turn_to(Doing.WORKING, START + 3)
    clock.turn_to(Doing.WAITING, START + 10)
    clock.turn_to(Doing.WORKING, START + 40)
    assert clock.at(START + 45) == {Doing.WAITING: 33, Doing.WORKING: 12, Doing.PAUSED: 0}
    assert sum(clock.at(START + 45).values()) == 45


def test_the_night_between_two_searches_is_neither_work_nor_waiting() -> None:
    clock = TrialClock(Doing.WAITING, START)
    clock.turn_to(Doing.WORKING, START + 2)
    # The search is killed after this report.
    clock.turn_to(Doing.WORKING, START + 12)
    resumed = taken_up(open_trial(**{CLOCK_ATTRIBUTE: clock.as_dict()}), START + 40_000)
    resumed.turn_to(Doing.WORKING, START + 40_001)
    assert resumed.at(START + 40_004) == {Doing.WAITING: 3, Doing.WORKING: 13, Doing.PAUSED: 39_988}


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    clock = TrialClock(Doing.WORKING, START)
    clock.turn_to(Doing.WAITING, START - 60)
    assert clock.at(START + 1)[Doing.WORKING] == 0
    assert clock.at(START + 1)[Doing.WAITING] == 1


def test_an_open_trial_has_worked_up_to_now_only_while_a_search_runs() -> None:
    trial = open_trial(**{CLOCK_ATTRIBUTE: TrialClock(Doing.WORKING, START, {**dict.fromkeys(Doing, 0.0)}).as_dict()})
    assert working_s(trial, START + 7) == 7
    assert working_s(trial) == 0


def test_an_open_trial_of_an_earlier_version_worked_what_its_phases_say() -> None:
    assert working_s(open_trial(facts={"load_s": 1.0, "train_s": 2.0, "eval_s": 3.0})) == 6
    assert working_s(open_trial(), START + 7) == 0


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"working_s": 12.0, "load_s": 1.0, "train_s": 2.0, "eval_s": 3.0}, 12),
        ({"load_s": 1.0, "train_s": 2.0, "eval_s": 3.0}, 6),
        ({"load_s": 1.0}, 60),
    ],
    ids=["clock", "phases of an earlier version", "start and end"],
)
def test_an_ended_trial_worked_as_long_as_is_known(attributes: dict[str, float], expected: float) -> None:
    trial = create_trial(state=Outcome.COMPLETE.state, value=0.5, user_attrs={"outcome": "complete", **attributes})
    trial.datetime_start, trial.datetime_complete = datetime(2024, 1, 1), datetime(2024, 1, 1, 0, 1)
    assert working_s(trial) == expected
