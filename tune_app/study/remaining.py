"""Estimate of a study's remaining time, from its trials' working time so far and its scheduler's rungs."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from optuna.trial import FrozenTrial

from tune_app.outcomes import Outcome
from tune_app.schedulers import SCHEDULERS
from tune_app.study.reporting import is_recommended, outcome_of, waits_at_rung, was_launched
from tune_app.study.times import QUEUED_ATTRIBUTE, facts_of, working_s

if TYPE_CHECKING:
    from tune_app.config import RunConfig

_UNTIMELY = (Outcome.OOM, Outcome.FAILED)
# Least share of its expected time that a trial still needs, however long it has worked already.
_LEAST_LEFT = 0.1


@dataclass(frozen=True)
class Course:
    """Course of a trial as the configuration plans it.

    Attributes:
        steps: steps of a trial that nothing ends early.
        rungs: steps after which the scheduler compares trials, ascending.
        reduction_factor: one trial in this many goes on from a rung.
        startup: number of first trials that always go on, as recommended ones do.
        slots: trials that run at a time.
    """

    steps: int
    rungs: tuple[int, ...] = ()
    reduction_factor: int = 1
    startup: int = 0
    slots: int = 1

    @classmethod
    def of(cls, config: "RunConfig") -> Self:
        scheduler, steps = config.scheduler, config.step_scale.count
        rungs = SCHEDULERS[scheduler.name].stopping_steps(steps, config.first_rung, scheduler.reduction_factor)
        return cls(
            steps, tuple(rungs), scheduler.reduction_factor, scheduler.startup_trials, config.search.max_concurrent
        )

    def expected_steps(self, done: int = 0, *, waits: bool = False, is_spared: bool = False) -> float:
        """Return the number of steps that a trial is still expected to train.

        Args:
            done: steps that the trial has finished.
            waits: whether the trial is paused at a rung, from which only one in ``reduction_factor`` goes on.
            is_spared: whether no rung ends the trial.
        """
        if is_spared:
            return float(max(0, self.steps - done))
        expected, chance = 0.0, 1 / self.reduction_factor if waits else 1.0
        for end in (*(rung for rung in self.rungs if rung > done), self.steps):
            expected += chance * max(0, end - done)
            done, chance = end, chance / self.reduction_factor
        return expected


def remaining_s(
    trials: Sequence[FrozenTrial], target: int, course: Course, *, is_running: bool = True, now: float | None = None
) -> float | None:
    """Return the seconds until a study holds its trials, with all slots busy; None before the first report.

    A future trial costs as much as earlier trials would have cost on average on their way through the rungs. An open
    trial is counted at its own pace.

    Args:
        target: launched trials that the study shall hold.
        is_running: whether a search is at work. If so, the time that open trials have worked since their last report
            counts.
        now: current time in seconds since the epoch; None reads the clock.
    """
    now = time.time() if now is None else now
    launched = [trial for trial in trials if was_launched(trial)]
    costs = [_Cost.of(trial) for trial in launched]
    paced = [cost for cost in costs if cost.step_s is not None]
    untimely = [
        working_s(trial) + trial.user_attrs.get(QUEUED_ATTRIBUTE, 0.0)
        for trial in launched
        if outcome_of(trial) in _UNTIMELY
    ]
    if not paced and not untimely:
        return None
    mean = _Cost(
        statistics.fmean(cost.step_s or 0.0 for cost in paced) if paced else 0.0,
        statistics.fmean(cost.load_s for cost in paced) if paced else 0.0,
    )
    spared = {trial.number for trial in launched[: course.startup]} | {t.number for t in launched if is_recommended(t)}
    left = [
        _left_s(trial, cost, mean, course, is_spared=trial.number in spared, now=now if is_running else None)
        for trial, cost in zip(launched, costs, strict=True)
        if not trial.state.is_finished()
    ]
    # Computed once each, because every future trial costs one of the two, and computing it reads all earlier ones.
    spared_s, other_s = (_whole_s(paced, untimely, course, is_spared=is_spared) for is_spared in (True, False))
    left += [spared_s if position < course.startup else other_s for position in range(len(launched), target)]
    # Slots are empty while the last trials end, so the longest trial may determine the time.
    return max(sum(left) / course.slots, max(left, default=0.0))


@dataclass(frozen=True)
class _Cost:
    """Working time of a trial.

    Attributes:
        step_s: seconds per step; None before the first step.
        load_s: seconds outside the steps: the wait for a worker, then mostly loading.
        steps: steps that the trial finished.
        worked_s: working time up to the last report.
        ran_through: whether the trial is complete.
    """

    step_s: float | None
    load_s: float
    steps: int = 0
    worked_s: float = 0.0
    ran_through: bool = False

    @classmethod
    def of(cls, trial: FrozenTrial) -> Self:
        facts = facts_of(trial)
        worked = working_s(trial)
        # A trial that does not measure its phases is taken to spend all its time on steps.
        stepping = min(worked, sum(facts.get(name) or 0.0 for name in ("train_s", "eval_s"))) or worked
        steps = max(trial.intermediate_values, default=0)
        ran_through = outcome_of(trial) is Outcome.COMPLETE
        load = worked - stepping + float(facts.get(QUEUED_ATTRIBUTE) or 0.0)
        return cls(stepping / steps if steps else None, load, steps, worked, ran_through)

    def whole_s(self, steps: float) -> float:
        """Return the seconds that a trial like this one takes for a number of steps."""
        return self.load_s + (self.step_s or 0.0) * steps


def _whole_s(paced: Sequence[_Cost], untimely: Sequence[float], course: Course, *, is_spared: bool) -> float:
    """Return the seconds that a future trial is expected to take."""
    steps = course.expected_steps(is_spared=is_spared)
    # A complete trial may have fewer steps, because its patience ended it.
    costs = [cost.whole_s(min(steps, cost.steps) if cost.ran_through else steps) for cost in paced]
    return statistics.fmean([*costs, *untimely])


def _left_s(
    trial: FrozenTrial, cost: _Cost, mean: _Cost, course: Course, *, is_spared: bool, now: float | None
) -> float:
    """Return the seconds that an open trial is expected to work still."""
    waits = waits_at_rung(trial)
    steps = course.expected_steps(cost.steps, waits=waits, is_spared=is_spared)
    if cost.step_s is None:
        return _still_s(mean.whole_s(steps), working_s(trial, now))
    # A trial that goes on from a rung is loaded again.
    loads = (1.0 if is_spared else 1 / course.reduction_factor) if waits else 0.0
    since_report = working_s(trial, now) - cost.worked_s
    return _still_s(cost.step_s * steps, since_report) + loads * mean.load_s


def _still_s(expected_s: float, worked_s: float) -> float:
    """Return the seconds that work still takes; work that takes longer than expected is not over yet either."""
    return max(expected_s - worked_s, _LEAST_LEFT * expected_s)
