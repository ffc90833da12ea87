"""Trials that no scheduler stops, and a resumed search's view of earlier trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial

from tune_app.distributed.messages import is_recommended, number_of
from tune_app.outcomes import WAITS_ATTRIBUTE
from tune_app.study import reporting


@dataclass(frozen=True)
class PastTrial:
    """Launched trial of a resumed study.

    Attributes:
        values: reports of the trial, by step.
        is_open: whether the trial was interrupted and is resumed.
        waits: whether the scheduler had paused the trial at its last report.
    """

    number: int
    values: Mapping[int, float]
    is_open: bool
    is_recommended: bool = False
    waits: bool = False

    @classmethod
    def of(cls, trial: FrozenTrial) -> Self:
        """Return a trial as the study stores it."""
        return cls(
            trial.number,
            trial.intermediate_values,
            is_open=trial.state == TrialState.RUNNING,
            is_recommended=reporting.is_recommended(trial),
            waits=trial.user_attrs.get(WAITS_ATTRIBUTE) == max(trial.intermediate_values, default=0),
        )


class Spared:
    """Spared trials: a number of first trials of a study, and those with recommended configurations."""

    def __init__(self, most: int, past: Sequence[PastTrial]) -> None:
        self._most = most
        self._first = set(sorted(trial.number for trial in past)[:most])
        self._recommended = {trial.number for trial in past if trial.is_recommended}

    def add(self, trial: Trial) -> bool:
        """Add a launched trial, and return whether it is spared."""
        if len(self._first) < self._most:
            self._first.add(number_of(trial))
        if is_recommended(trial):
            self._recommended.add(number_of(trial))
        return number_of(trial) in self

    def __contains__(self, number: int) -> bool:
        return number in self._first or number in self._recommended
