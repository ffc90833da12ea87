"""A scheduler of a resumed search decides as that of the search before it would have."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from tune_app.search.scheduler import METRIC, TIME, PastTrial, build_scheduler

STEPS = 9


def asha(*past: PastTrial, startup_trials: int = 0) -> Any:
    return build_scheduler(
        "asha", steps=STEPS, warmup=1, reduction_factor=3, startup_trials=startup_trials, past=list(past)
    )


def added(scheduler: Any, number: int) -> Any:
    trial = SimpleNamespace(trial_id=f"ray-{number}", config={"number": number})
    scheduler.on_trial_add(None, trial)
    return trial


def past(number: int, *values: float, is_open: bool = False) -> PastTrial:
    return PastTrial(number, dict(enumerate(values, 1)), is_open)


def decision(scheduler: Any, trial: Any, step: int, value: float) -> str:
    return str(scheduler.on_trial_result(None, trial, {TIME: step, METRIC: value}))


@pytest.mark.parametrize(("value", "expected"), [(0.4, TrialScheduler.STOP), (0.9, TrialScheduler.CONTINUE)])
def test_a_new_trial_is_held_against_what_the_study_holds(value: float, expected: str) -> None:
    before = [past(number, 0.1 * number) for number in range(9)]
    fresh, resumed = asha(), asha(*before)
    assert decision(fresh, added(fresh, 9), 1, value) == TrialScheduler.CONTINUE
    assert decision(resumed, added(resumed, 9), 1, value) == expected


def test_the_decisions_are_those_of_a_search_that_was_never_interrupted() -> None:
    reports = [[0.3, 0.4, 0.5, 0.6], [0.6, 0.5], [0.2], [0.5, 0.6, 0.4, 0.3], [0.7, 0.8, 0.9]]
    straight = asha()
    for number, values in enumerate(reports):
        trial = added(straight, number)
        for step, value in enumerate(values, 1):
            decision(straight, trial, step, value)
    resumed = asha(*(past(number, *values) for number, values in enumerate(reports)))
    for number, value in enumerate((0.45, 0.55, 0.65, 0.75, 0.85), 5):
        trials = [added(scheduler, number) for scheduler in (straight, resumed)]
        for step in range(1, STEPS):
            decided = [
                decision(scheduler, trial, step, value)
                for scheduler, trial in zip((straight, resumed), trials, strict=True)
            ]
            assert decided[0] == decided[1]


def test_a_trial_that_was_cut_short_is_not_held_against_a_rung_that_it_passed() -> None:
    good = [past(number, 0.8) for number in range(5)]
    cut = past(5, 0.3, 0.3, is_open=True)
    resumed = asha(*good, cut)
    assert decision(resumed, added(resumed, 5), 2, 0.3) == TrialScheduler.CONTINUE
    unknown = asha(*good)
    assert decision(unknown, added(unknown, 5), 2, 0.3) == TrialScheduler.STOP


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_who_is_left_alone_is_counted_over_the_whole_study(name: str) -> None:
    scheduler: Any = build_scheduler(
        name,
        steps=STEPS,
        warmup=1,
        reduction_factor=3,
        startup_trials=3,
        past=[past(4, 0.5), past(0, 0.5), past(2, 0.5, is_open=True), past(7, 0.5, is_open=True)],
    )
    again, late, new = (SimpleNamespace(trial_id=str(n), config={"number": n}) for n in (2, 7, 9))
    assert [scheduler._left_alone.add(trial) for trial in (again, late, new)] == [True, False, False]
    fresh: Any = build_scheduler(name, steps=STEPS, warmup=1, reduction_factor=3, startup_trials=2)
    assert [fresh._left_alone.add(trial) for trial in (again, late, new)] == [True, True, False]
