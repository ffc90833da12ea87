"""Time left: from the working times of trials, and from the share that the scheduler lets continue."""

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_app.config import parse_config
from tune_app.outcomes import Outcome
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.times import Doing, TrialClock

NOW = 1_700_000_000.0
ALL = Course(6)
RUNGS = Course(6, (1, 3), 3)


def ended(outcome: Outcome, worked: float, steps: int = 0, **attributes: Any) -> FrozenTrial:
    return create_trial(
        state=outcome.state,
        value=0.5 if outcome is Outcome.COMPLETE else None,
        user_attrs={"outcome": outcome.value, "working_s": worked, **attributes},
        intermediate_values=dict.fromkeys(range(1, steps + 1), 0.5),
    )


def running(worked: float, steps: int = 0, ago: float = 0.0, **attributes: Any) -> FrozenTrial:
    """Return an open trial whose last report was so many seconds ago."""
    clock = TrialClock(Doing.WORKING, NOW - ago, {**dict.fromkeys(Doing, 0.0), Doing.WORKING: worked})
    return create_trial(
        state=TrialState.RUNNING,
        user_attrs={"clock": clock.as_dict(), **attributes},
        intermediate_values=dict.fromkeys(range(1, steps + 1), 0.5),
    )


def waiting(worked: float, steps: int, **attributes: Any) -> FrozenTrial:
    trial = running(worked, steps, waits_at=steps, **attributes)
    trial.user_attrs["clock"]["doing"] = Doing.WAITING
    return trial


def left(trials: list[FrozenTrial], target: int, course: Course) -> float | None:
    for number, trial in enumerate(trials):
        trial.number = number
    return remaining_s(trials, target, course, now=NOW)


def test_nothing_is_guessed_before_the_first_report() -> None:
    assert left([], 10, ALL) is None
    assert left([running(5)], 10, ALL) is None
    assert left([ended(Outcome.INFEASIBLE, 0)], 10, ALL) is None


COMPLETE = ended(Outcome.COMPLETE, 60, 6)
CASES = {
    "four more like the first": ([COMPLETE], 5, ALL, 240),
    "two at a time": ([COMPLETE], 5, Course(6, slots=2), 120),
    "the last one alone": ([COMPLETE], 2, Course(6, slots=4), 60),
    "rejected samples cost nothing": ([COMPLETE, ended(Outcome.INFEASIBLE, 0)], 2, ALL, 60),
    "failed ones are to be expected again": ([COMPLETE, ended(Outcome.FAILED, 20)], 4, ALL, 80),
    "all is done": ([COMPLETE], 1, ALL, 0),
    "an open one has the rest of its own way": ([running(20, 2)], 1, ALL, 40),
    "what it worked since its report counts": ([running(20, 2, ago=5)], 1, ALL, 35),
    "one without a report is as long as the others": ([COMPLETE, running(0, ago=12)], 2, ALL, 48),
    "one that takes longer than the others is not over yet": ([COMPLETE, running(0, ago=500)], 2, ALL, 6),
    "nor is one whose last step takes longer": ([running(50, 5, ago=500)], 1, ALL, 1),
    # 1 step, then 2 more for one in three, and the last 3 for one in nine.
    "few trials pass the rungs": ([ended(Outcome.STOPPED, 10, 1)], 2, RUNGS, 20),
    "recommended ones say nothing on the others' length": (
        [ended(Outcome.COMPLETE, 60, 6, recommended=True)],
        2,
        RUNGS,
        20,
    ),
    "one in three of those that wait goes on": ([waiting(10, 1)], 1, RUNGS, 10),
    "a recommended one that waits goes on to its end": ([waiting(10, 1, recommended=True)], 1, RUNGS, 50),
    "so does one of the startup": ([waiting(10, 1)], 1, Course(6, (1, 3), 3, startup=1), 50),
    "a trial to come may be of the startup": ([ended(Outcome.STOPPED, 10, 1)], 2, Course(6, (1, 3), 3, startup=2), 60),
}


@pytest.mark.parametrize(("trials", "target", "course", "expected"), CASES.values(), ids=CASES)
def test_the_time_left(trials: list[FrozenTrial], target: int, course: Course, expected: float) -> None:
    assert left(trials, target, course) == pytest.approx(expected)


def test_loading_is_paid_once_a_trial_and_again_by_one_that_goes_on() -> None:
    phases = {"train_s": 8.0, "eval_s": 2.0}
    assert left([ended(Outcome.STOPPED, 15, 1, **phases)], 2, RUNGS) == pytest.approx(5 + 20)
    assert left([waiting(15, 1, facts=phases)], 1, RUNGS) == pytest.approx(5 / 3 + 10)


def test_a_worker_that_is_waited_for_holds_a_slot() -> None:
    assert left([ended(Outcome.COMPLETE, 60, 6, queued_s=5.0)], 3, ALL) == pytest.approx(130)


def test_the_course_is_the_configurations(plain_config: dict[str, Any]) -> None:
    raw = plain_config | {"train": {"epochs": 6}, "scheduler": {"name": "asha", "rung": "epoch"}}
    config = parse_config(raw, ["search.max_concurrent=2", "scheduler.startup_trials=1"])
    factor = config.scheduler.reduction_factor
    assert Course.of(config) == Course(6, Course.of(config).rungs, factor, startup=1, slots=2)
    assert Course.of(config).rungs[0] == 1
    assert Course.of(parse_config(plain_config)).rungs == ()
