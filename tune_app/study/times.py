"""How the time of a trial was spent: at work, waiting, or paused because no search was running."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from optuna.trial import FrozenTrial

from tune_app.outcomes import FACTS_ATTRIBUTE

CLOCK_ATTRIBUTE = "clock"
"""Attribute of an open trial: its clock as it stood at its last change or checkpoint."""

QUEUED_ATTRIBUTE = "queued_s"
"""Attribute of a trial: the part of ``waiting_s`` before its first worker was ready, which holds a slot already."""


class Doing(StrEnum):
    """What a trial spends its time on. The values name the attributes that hold the seconds."""

    WORKING = "working_s"
    """It holds a worker."""
    WAITING = "waiting_s"
    """It holds no worker, though a search is running: none is free, or its scheduler has it wait at a rung."""
    PAUSED = "paused_s"
    """No search was running: the one before was interrupted or killed."""


TIME_ATTRIBUTES = tuple(doing.value for doing in Doing)


def _no_seconds() -> dict[Doing, float]:
    return dict.fromkeys(Doing, 0.0)


@dataclass
class TrialClock:
    """Clock that counts a trial's seconds by what it does; they add up to its whole duration.

    Attributes:
        doing: what it does now.
        since: up to when the seconds are counted, in seconds since the epoch.
    """

    doing: Doing
    since: float
    seconds: dict[Doing, float] = field(default_factory=_no_seconds)

    def turn_to(self, doing: Doing, now: float) -> None:
        """Count the time up to now, and go on with what the trial does from here on."""
        self.seconds[self.doing] += max(0.0, now - self.since)
        self.doing, self.since = doing, max(now, self.since)

    def at(self, now: float) -> dict[Doing, float]:
        """Return the seconds as they stand now."""
        return {**self.seconds, self.doing: self.seconds[self.doing] + max(0.0, now - self.since)}

    def as_dict(self) -> dict[str, Any]:
        return {"doing": self.doing.value, "since": self.since, **{key.value: s for key, s in self.seconds.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        seconds = {doing: float(values[doing.value]) for doing in Doing}
        return cls(Doing(values["doing"]), float(values["since"]), seconds)


def clock_of(trial: FrozenTrial) -> TrialClock:
    """Return the clock of an open trial as it was recorded last; a new one has waited since the trial was made."""
    if stored := trial.user_attrs.get(CLOCK_ATTRIBUTE):
        return TrialClock.from_dict(stored)
    return TrialClock(Doing.WAITING, trial.datetime_start.timestamp() if trial.datetime_start else time.time())


def taken_up(trial: FrozenTrial, began: float) -> TrialClock:
    """Return the clock of a trial that a search takes up: the time since it was left counts as paused.

    Args:
        began: when the search began, in seconds since the epoch.
    """
    clock = clock_of(trial)
    if clock.since < began:
        clock.doing = Doing.PAUSED
        clock.turn_to(Doing.WAITING, began)
    return clock


def working_s(trial: FrozenTrial, now: float | None = None) -> float:
    """Return the seconds that a trial worked, without what it waited or was paused.

    Args:
        now: counts the time since its last report of a trial that is at work; None where no search is running.
    """
    stored = trial.user_attrs.get(Doing.WORKING)
    if stored is not None:
        return float(stored)
    is_open = not trial.state.is_finished()
    if is_open and CLOCK_ATTRIBUTE in trial.user_attrs:
        clock = clock_of(trial)
        return (clock.seconds if now is None else clock.at(now))[Doing.WORKING]
    # A study of an earlier version has the phases alone, or no more than start and end.
    facts = {**(trial.user_attrs.get(FACTS_ATTRIBUTE) or {}), **trial.user_attrs}
    phases = [facts.get(name) for name in ("load_s", "train_s", "eval_s")]
    if all(phase is not None for phase in phases):
        return float(sum(phase or 0.0 for phase in phases))
    return trial.duration.total_seconds() if trial.duration is not None else 0.0
