"""ASHA through Ray's interface: it pauses, continues and stops trials, and resumes as if never interrupted."""

import math
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from tune_app.distributed.messages import Launch, SentReport, number_of
from tune_app.distributed.scheduler import build_scheduler, waiting_trials
from tune_app.distributed.spared import PastTrial, Spared

STEPS = 9
CONTINUE, PAUSE, STOP = TrialScheduler.CONTINUE, TrialScheduler.PAUSE, TrialScheduler.STOP


class StandIn:
    """Parts of Ray's trial that schedulers read."""

    def __init__(self, number: int, *, is_recommended: bool = False) -> None:
        self.trial_id = f"ray-{number}"
        self.config = Launch(number, {}, is_recommended=is_recommended).as_dict()
        self.status = Trial.PENDING

    def set_status(self, status: str) -> None:
        self.status = status


class Controller:
    """Controller that stops trials as Ray's does."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.stopped: list[int] = []

    def stop_trial(self, trial: Any) -> None:
        self._scheduler.on_trial_remove(self, trial)
        trial.status = Trial.TERMINATED
        self.stopped.append(number_of(trial))


def asha(*past: PastTrial, startup_trials: int = 0, no_more: bool = False, slots: float = math.inf) -> Any:
    return build_scheduler(
        "asha",
        steps=STEPS,
        warmup=1,
        reduction_factor=3,
        startup_trials=startup_trials,
        past=list(past),
        no_more=lambda: no_more,
        slots=slots,
    )


def added(scheduler: Any, number: int, *, is_recommended: bool = False) -> Any:
    trial = StandIn(number, is_recommended=is_recommended)
    scheduler.on_trial_add(None, trial)
    return trial


def past(number: int, *values: float, is_open: bool = False, waits: bool = False) -> PastTrial:
    return PastTrial(number, dict(enumerate(values, 1)), is_open, waits=waits)


def decision(scheduler: Any, trial: Any, step: int, value: float) -> str:
    """Report a value and return the decision; pause the trial as Ray does it."""
    trial.status = Trial.RUNNING
    decided = str(scheduler.on_trial_result(None, trial, SentReport(step, value).as_dict()))
    trial.status = Trial.PAUSED if decided == PAUSE else trial.status
    return decided


def test_the_first_trials_fill_the_lowest_rung_before_the_best_of_them_goes_on() -> None:
    scheduler = asha()
    trials = [added(scheduler, number) for number in range(3)]
    assert [decision(scheduler, trial, 1, value) for trial, value in zip(trials, (0.8, 0.5, 0.3), strict=True)] == [
        PAUSE,
        PAUSE,
        PAUSE,
    ]
    assert waiting_trials(scheduler) == {1, 2}, "the best holds a slot again"
    controller = Controller(scheduler)
    assert scheduler.choose_trial_to_run(controller) is trials[0]
    assert scheduler.choose_trial_to_run(controller) is None
    assert controller.stopped == []
    assert decision(scheduler, added(scheduler, 3), 1, 0.9) == CONTINUE, "one of the best third does not pause"


def test_the_first_trials_of_the_study_are_never_stopped() -> None:
    scheduler = asha(startup_trials=3, no_more=True)
    trials = [added(scheduler, number) for number in range(4)]
    values = (0.9, 0.5, 0.3, 0.4)
    decided = [decision(scheduler, trial, 1, value) for trial, value in zip(trials, values, strict=True)]
    assert [number for number in range(4) if decided[number] == STOP] == [3]
    controller = Controller(scheduler)
    while scheduler.choose_trial_to_run(controller) is not None:
        pass
    assert controller.stopped == []
    assert waiting_trials(scheduler).isdisjoint({0, 1, 2}), "they go on"


def test_a_waiting_trial_is_stopped_once_it_has_no_chance_left() -> None:
    scheduler = asha(*(past(number, 0.5 + number / 100) for number in range(6)))
    late = added(scheduler, 6)
    assert decision(scheduler, late, 1, 0.525) == PAUSE
    for number in range(7, 10):
        decision(scheduler, added(scheduler, number), 1, 0.9)
    controller = Controller(scheduler)
    while scheduler.choose_trial_to_run(controller) is not None:
        pass
    assert controller.stopped == [6]


def test_the_last_trials_are_settled_from_the_lowest_rung_up() -> None:
    scheduler = asha(no_more=True)
    trials = [added(scheduler, number) for number in range(2)]
    assert decision(scheduler, trials[0], 1, 0.5) == PAUSE, "the other has not reported yet"
    assert decision(scheduler, trials[1], 1, 0.9) == CONTINUE, "nobody else will come"
    controller = Controller(scheduler)
    assert scheduler.choose_trial_to_run(controller) is None
    assert controller.stopped == [0]
    assert decision(scheduler, trials[1], 3, 0.9) == CONTINUE


def test_the_trial_that_got_furthest_goes_on_first() -> None:
    scheduler = asha()
    trials = [added(scheduler, number) for number in range(6)]
    for trial, value in zip(trials, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True):
        decision(scheduler, trial, 1, value)
    controller = Controller(scheduler)
    started = [scheduler.choose_trial_to_run(controller) for _ in range(2)]
    assert started == trials[:2]
    assert decision(scheduler, trials[0], 3, 0.9) == PAUSE
    assert decision(scheduler, trials[1], 3, 0.8) == PAUSE
    third = added(scheduler, 6)
    assert decision(scheduler, third, 1, 0.95) == CONTINUE
    assert decision(scheduler, third, 3, 0.1) == PAUSE
    assert scheduler.choose_trial_to_run(controller) is trials[0], "of its rung the best third may go on"


@pytest.mark.parametrize(("value", "expected"), [(0.1, STOP), (0.65, PAUSE), (0.9, CONTINUE)])
def test_a_new_trial_is_held_against_the_trials_of_the_study(value: float, expected: str) -> None:
    before = [past(number, 0.1 * number) for number in range(9)]
    fresh, resumed = asha(), asha(*before)
    assert decision(fresh, added(fresh, 9), 1, value) == PAUSE
    assert decision(resumed, added(resumed, 9), 1, value - 0.1) == expected


def test_the_decisions_are_those_of_a_search_that_was_never_interrupted() -> None:
    reports = [[0.3], [0.6, 0.5, 0.6], [0.2], [0.5, 0.6, 0.4, 0.3], [0.7, 0.8, 0.9]]
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


def test_a_trial_that_waited_waits_on_after_a_resume_until_it_may_go() -> None:
    good = [past(number, 0.8) for number in range(5)]
    scheduler = asha(*good, past(5, 0.7, is_open=True, waits=True))
    waited = added(scheduler, 5)
    assert waited.status == Trial.PAUSED, "Ray would start it if it were pending"
    assert waiting_trials(scheduler) == {5}
    settled = asha(*(past(number, 0.1) for number in range(5)), past(5, 0.7, is_open=True, waits=True))
    assert added(settled, 5).status == Trial.PENDING, "it may go on at once"
    assert waiting_trials(settled) == set()


def test_a_trial_that_went_on_from_its_rung_does_not_wait_there_after_a_resume() -> None:
    scheduler = asha(*(past(number, 0.8) for number in range(5)), past(5, 0.7, is_open=True))
    assert added(scheduler, 5).status == Trial.PENDING
    assert waiting_trials(scheduler) == set()


def test_a_trial_that_is_retried_after_a_resume_is_never_paused_behind_rays_back() -> None:
    scheduler = asha(*(past(number, 0.1) for number in range(5)), past(5, 0.7, is_open=True, waits=True))
    trial = added(scheduler, 5)
    assert trial.status == Trial.PENDING, "the best third goes on at once"
    for number in range(6, 16):
        decision(scheduler, added(scheduler, number), 1, 0.9)
    # Ray adds a trial again after its worker died.
    scheduler.on_trial_add(None, trial)
    assert trial.status == Trial.PENDING


def test_no_more_trials_go_on_than_there_are_slots() -> None:
    scheduler = asha(slots=1)
    trials = [added(scheduler, number) for number in range(6)]
    for trial, value in zip(trials, (0.9, 0.8, 0.3, 0.2, 0.1, 0.0), strict=True):
        decision(scheduler, trial, 1, value)
    controller = Controller(scheduler)
    assert scheduler.choose_trial_to_run(controller) is trials[0]
    trials[0].status = Trial.RUNNING
    assert scheduler.choose_trial_to_run(controller) is None, "one runs already"
    scheduler.on_trial_complete(None, trials[0], {})
    assert scheduler.choose_trial_to_run(controller) is trials[1]


def test_reports_of_other_steps_do_not_fill_a_rung() -> None:
    coarse = [PastTrial(number, {2: 0.9, 4: 0.9}, is_open=False) for number in range(9)]
    scheduler = asha(*coarse)
    assert decision(scheduler, added(scheduler, 9), 1, 0.5) == PAUSE, "nothing is known of the others after one step"


def test_a_trial_that_was_cut_short_is_not_held_against_a_rung_that_it_passed() -> None:
    good = [past(number, 0.8) for number in range(8)]
    resumed = asha(*good, past(8, 0.3, 0.3, is_open=True))
    cut = added(resumed, 8)
    assert cut.status == Trial.PENDING
    assert decision(resumed, cut, 2, 0.3) == CONTINUE
    unknown = asha(*good)
    assert decision(unknown, added(unknown, 8), 2, 0.3) == STOP


def test_recommended_configurations_wait_like_others_but_are_never_stopped() -> None:
    before = [past(number, 0.5) for number in range(9)]
    ended: list[int] = []
    scheduler: Any = build_scheduler(
        "asha",
        steps=STEPS,
        warmup=1,
        reduction_factor=3,
        startup_trials=0,
        past=before,
        no_more=lambda: bool(ended),
    )
    recommended, other = added(scheduler, 9, is_recommended=True), added(scheduler, 10)
    assert decision(scheduler, recommended, 1, 0.1) == PAUSE
    assert decision(scheduler, other, 1, 0.1) == STOP, "a trial like it has no chance"
    scheduler.on_trial_complete(None, other, {})
    controller = Controller(scheduler)
    assert scheduler.choose_trial_to_run(controller) is None
    ended.append(1)
    assert scheduler.choose_trial_to_run(controller) is recommended, "it runs to its end once no other trial comes"
    assert decision(scheduler, recommended, 3, 0.1) == CONTINUE
    assert controller.stopped == []


def test_recommended_configurations_run_through_where_trials_cannot_wait() -> None:
    scheduler: Any = build_scheduler(
        "asha", steps=STEPS, warmup=1, reduction_factor=3, startup_trials=0, past=[past(0, 0.5)], pauses=False
    )
    assert decision(scheduler, added(scheduler, 1, is_recommended=True), 1, 0.1) == CONTINUE
    assert decision(scheduler, added(scheduler, 2), 1, 0.1) == STOP


def test_those_who_are_never_stopped_are_counted_over_the_whole_study() -> None:
    before = [past(4, 0.5), past(0, 0.5), past(2, 0.5, is_open=True), past(7, 0.5, is_open=True)]
    resumed = Spared(3, before)
    assert [resumed.add(StandIn(number)) for number in (2, 7, 9)] == [True, False, False]  # type: ignore[arg-type]
    fresh = Spared(2, [])
    assert [fresh.add(StandIn(number)) for number in (2, 7, 9)] == [True, True, False]  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "is_open"), [(TrialState.RUNNING, True), (TrialState.COMPLETE, False)])
@pytest.mark.parametrize(("waits_at", "waits"), [(None, False), (1, False), (2, True)])
def test_a_stored_trial_waits_if_it_was_paused_at_its_last_report(
    state: TrialState, is_open: bool, waits_at: int | None, waits: bool
) -> None:
    attributes = {"waits_at": waits_at, "recommended": True}
    value = 0.5 if state == TrialState.COMPLETE else None
    stored = create_trial(state=state, value=value, intermediate_values={1: 0.25, 2: 0.5}, user_attrs=attributes)
    stored.number = 7
    assert PastTrial.of(stored) == PastTrial(7, {1: 0.25, 2: 0.5}, is_open, is_recommended=True, waits=waits)
