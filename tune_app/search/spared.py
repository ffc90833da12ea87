"""Trials that no scheduler stops, and what a resumed search knows of earlier ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.tune.experiment import Trial

from tune_app.search.messages import is_recommended, number_of


@dataclass(frozen=True)
class PastTrial:
    """A launched trial of a study that is resumed.

    Attributes:
        values: its reports, by step.
        is_open: it was cut short, and is taken up again.
        waits: the scheduler had paused it at its last report.
    """

    number: int
    values: Mapping[int, float]
    is_open: bool
    is_recommended: bool = False
    waits: bool = False


class Spared:
    """The first so many trials of a study, and those with recommended configurations."""

    def __init__(self, most: int, past: Sequence[PastTrial]) -> None:
        self._most = most
        self._first = set(sorted(trial.number for trial in past)[:most])
        self._recommended = {trial.number for trial in past if trial.is_recommended}

    def add(self, trial: Trial) -> bool:
        """Take note of a trial that is launched; return whether it is spared."""
        if len(self._first) < self._most:
            self._first.add(number_of(trial))
        if is_recommended(trial):
            self._recommended.add(number_of(trial))
        return number_of(trial) in self

    def __contains__(self, number: int) -> bool:
        return number in self._first or number in self._recommended
