"""Accounting of a trial's time: at work, waiting, or paused because no search was running."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from optuna.trial import FrozenTrial

from tune_app.outcomes import FACTS_ATTRIBUTE

CLOCK_ATTRIBUTE = "clock"
"""Attribute of an open trial: its clock at its last change or checkpoint."""

QUEUED_ATTRIBUTE = "queued_s"
"""Attribute of a trial: the part of ``waiting_s`` before its first worker was ready. The trial already holds a slot."""


BESIDE_ATTRIBUTE = "beside_s"
"""Attribute of a trial: seconds of its first worker beside loading, training, evaluation and saving, up to its first
report. A new worker imports torch in that time."""


class Doing(StrEnum):
    """State in which a trial spends its time. The values name the attributes that hold the seconds."""

    WORKING = "working_s"
    """The trial holds a worker."""
    WAITING = "waiting_s"
    """A search is running, but the trial holds no worker: none is free, or its scheduler paused it at a rung."""
    PAUSED = "paused_s"
    """No search was running, because the previous one was interrupted or killed."""


def _no_seconds() -> dict[Doing, float]:
    return dict.fromkeys(Doing, 0.0)


@dataclass
class TrialClock:
    """Clock that counts a trial's seconds in each state; they add up to its whole duration.

    Attributes:
        doing: the current state.
        since: time up to which the seconds are counted, in seconds since the epoch.
    """

    doing: Doing
    since: float
    seconds: dict[Doing, float] = field(default_factory=_no_seconds)

    def turn_to(self, doing: Doing, now: float) -> None:
        """Count the time up to now, then change to another state."""
        self.seconds[self.doing] += max(0.0, now - self.since)
        self.doing, self.since = doing, max(now, self.since)

    def at(self, now: float) -> dict[Doing, float]:
        """Return the seconds in each state up to now."""
        return {**self.seconds, self.doing: self.seconds[self.doing] + max(0.0, now - self.since)}

    def as_dict(self) -> dict[str, Any]:
        return {"doing": self.doing.value, "since": self.since, **{key.value: s for key, s in self.seconds.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        seconds = {doing: float(values[doing.value]) for doing in Doing}
        return cls(Doing(values["doing"]), float(values["since"]), seconds)


def clock_of(trial: FrozenTrial) -> TrialClock:
    """Return the last recorded clock of an open trial; without one, a clock that has waited since the trial's start."""
    if stored := trial.user_attrs.get(CLOCK_ATTRIBUTE):
        return TrialClock.from_dict(stored)
    return TrialClock(Doing.WAITING, trial.datetime_start.timestamp() if trial.datetime_start else time.time())


def taken_up(trial: FrozenTrial, began: float) -> TrialClock:
    """Return the clock of a trial that a search resumes; the time since its last record counts as paused.

    Args:
        began: start of the search, in seconds since the epoch.
    """
    clock = clock_of(trial)
    if clock.since < began:
        clock.doing = Doing.PAUSED
        clock.turn_to(Doing.WAITING, began)
    return clock


def facts_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's attributes, with the facts that an open trial has reported so far."""
    return {**(trial.user_attrs.get(FACTS_ATTRIBUTE) or {}), **trial.user_attrs}


def working_s(trial: FrozenTrial, now: float | None = None) -> float:
    """Return the seconds that a trial worked, without its waits and pauses.

    Args:
        now: time up to which a trial at work is counted; None if no search is running, so that only recorded time
            counts.
    """
    stored = trial.user_attrs.get(Doing.WORKING)
    if stored is not None:
        return float(stored)
    is_open = not trial.state.is_finished()
    if is_open and CLOCK_ATTRIBUTE in trial.user_attrs:
        clock = clock_of(trial)
        return (clock.seconds if now is None else clock.at(now))[Doing.WORKING]
    # Earlier versions recorded only the phases, or only start and end.
    facts = facts_of(trial)
    phases = [facts.get(name) for name in ("load_s", "train_s", "eval_s")]
    if all(phase is not None for phase in phases):
        return float(sum(phase or 0.0 for phase in phases))
    return trial.duration.total_seconds() if trial.duration is not None else 0.0
