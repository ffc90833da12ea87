"""How much of a search's time its trials worked, and how much their slots stood idle."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import FrozenTrial

from tune_app.study.reporting import was_launched
from tune_app.study.times import QUEUED_ATTRIBUTE, Doing, clock_of, working_s


@dataclass(frozen=True)
class Occupancy:
    """Use of a study's slots while a search was at work.

    Attributes:
        slots: trials that run at a time.
        searched_s: seconds in which at least one trial was open, without pauses between searches.
        worked_s: seconds that all trials together held a worker.
        waited_s: seconds that all trials together waited for a worker, or at a rung.
        starting_s: part of ``waited_s`` before a trial's first worker was ready.
    """

    slots: int
    searched_s: float
    worked_s: float
    waited_s: float
    starting_s: float

    @property
    def idle(self) -> float | None:
        """Share of the slots' time in which no trial worked; None before the first trial."""
        offered_s = self.slots * self.searched_s
        return None if offered_s <= 0 else max(0.0, 1 - self.worked_s / offered_s)


def occupancy(trials: Sequence[FrozenTrial], slots: int, now: float | None = None) -> Occupancy:
    """Return how busy the slots of a study were.

    Args:
        slots: trials that run at a time.
        now: current time in seconds since the epoch, up to which open trials count; None if no search is running, so
            that only recorded time counts.
    """
    launched = [trial for trial in trials if was_launched(trial)]
    seconds = [seconds_of(trial, now) for trial in launched]
    return Occupancy(
        slots,
        _searched_s(launched, now),
        sum(working_s(trial, now) for trial in launched),
        sum(each[Doing.WAITING] for each in seconds),
        sum(float(trial.user_attrs.get(QUEUED_ATTRIBUTE) or 0.0) for trial in launched),
    )


def seconds_of(trial: FrozenTrial, now: float | None) -> dict[Doing, float]:
    """Return a trial's seconds in each state, up to ``now`` if it is open."""
    if trial.state.is_finished():
        return {doing: float(trial.user_attrs.get(doing) or 0.0) for doing in Doing}
    clock = clock_of(trial)
    return clock.seconds if now is None else clock.at(now)


def _searched_s(launched: Sequence[FrozenTrial], now: float | None) -> float:
    """Return the length of the union of the trials' spans, less the longest pause that a trial went through.

    All trials that are open when a search ends pause together, so the pauses of several trials are not added up.
    """
    spans = sorted((_s(trial.datetime_start), _end_s(trial, now)) for trial in launched if trial.datetime_start)
    covered, until = 0.0, 0.0
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    paused = max((seconds_of(trial, now)[Doing.PAUSED] for trial in launched), default=0.0)
    return max(0.0, covered - paused)


def _end_s(trial: FrozenTrial, now: float | None) -> float:
    if trial.datetime_complete is not None:
        return _s(trial.datetime_complete)
    return clock_of(trial).since if now is None else now


def _s(moment: datetime | None) -> float:
    return time.time() if moment is None else moment.timestamp()
