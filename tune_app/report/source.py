"""Study as one reading found it, from which every section of a report is computed."""

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from optuna.trial import FrozenTrial

from tune_app.config import RunConfig
from tune_app.objectives import Objective, values_of
from tune_app.outcomes import Outcome
from tune_app.step_scale import StepScale
from tune_app.study.remote import is_running
from tune_app.study.reporting import StudyStatus, leaderboard, outcome_of, state_of, study_status, was_launched
from tune_app.study.store import StudyStore


@dataclass(frozen=True)
class Source:
    """Study as one reading found it.

    Attributes:
        config: configuration of the study's latest search, as resolved.
        run_dir: folder of the study's files on this machine.
        is_running: whether a search is at work on the study.
        read_at: time of the reading.
    """

    store: StudyStore
    config: RunConfig
    run_dir: Path
    trials: Sequence[FrozenTrial]
    status: StudyStatus
    is_running: bool
    read_at: datetime.datetime

    @classmethod
    def read(cls, store: StudyStore, config: RunConfig, run_dir: Path) -> Self:
        running = is_running(config, run_dir)
        now = datetime.datetime.now().astimezone()
        return cls(store, config, run_dir, store.trials(), study_status(store, is_running=running), running, now)

    @property
    def objective(self) -> Objective:
        """The first objective, which ranks the trials."""
        return self.store.record.objectives[0]

    @property
    def step_scale(self) -> StepScale:
        return self.store.record.step_scale

    @property
    def now(self) -> float | None:
        """Current time in seconds since the epoch, up to which open trials count; None without a running search."""
        return time.time() if self.is_running else None

    @cached_property
    def ranked(self) -> list[FrozenTrial]:
        """The complete trials, the best first."""
        return leaderboard(self.trials, self.store.record.objectives)

    @cached_property
    def launched(self) -> list[FrozenTrial]:
        """The trials that this study launched itself."""
        return [trial for trial in self.trials if was_launched(trial)]

    @cached_property
    def measured(self) -> list[FrozenTrial]:
        """The complete and the stopped trials that reported a value, in the order of their numbers."""
        return [
            trial
            for trial in self.trials
            if outcome_of(trial) in (Outcome.COMPLETE, Outcome.STOPPED) and self.value_of(trial) is not None
        ]

    def trial(self, number: int) -> FrozenTrial | None:
        """Return a complete trial by its number; None if there is none."""
        return next((trial for trial in self.ranked if trial.number == number), None)

    def value_of(self, trial: FrozenTrial) -> float | None:
        """Return a trial's value of the first objective, or that of its reports so far; None before the first."""
        values = values_of(trial)
        return values[0] if values else self.step_scale.last_value(trial.intermediate_values)

    def setting(self, trial: FrozenTrial, name: str) -> Any:
        """Return a trial's value of a setting, searched or fixed; None if the study does not record it."""
        return trial.params.get(name, self.store.record.fixed.get(name))

    def state(self, trial: FrozenTrial) -> str:
        return state_of(trial, is_running=self.is_running)
