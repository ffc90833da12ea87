"""Asynchronous successive halving from reports alone: which trials go on at a rung, which wait, which are stopped.

L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2. In the paper, all
trials pause at every rung and wait there until the end. Here, a trial that is among the best on arrival goes straight
on, and a trial that only many worse arrivals could promote is stopped.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """Decision on a trial at a rung."""

    GO = "go"
    WAIT = "wait"
    STOP = "stop"


@dataclass
class Rung:
    """Reports of the trials that reached a step: trial number → value, in order of arrival."""

    step: int
    values: dict[int, float] = field(default_factory=dict)

    def rank(self, number: int) -> int:
        """Return a trial's rank, where 1 is the best; among equals the earlier arrival ranks first."""
        mine = _comparable(self.values[number])
        better = 0
        is_before = True
        for other, value in self.values.items():
            if other == number:
                is_before = False
            elif _comparable(value) > mine or (is_before and _comparable(value) == mine):
                better += 1
        return better + 1


class Ladder:
    """Rungs at ascending steps, at each of which one trial in ``reduction_factor`` goes on.

    Args:
        steps: steps of the rungs, ascending.
        reduction_factor: at least 2.
        pauses: whether trials can wait at a rung. If not, each is judged on arrival, and the first one goes on.
    """

    def __init__(self, steps: Sequence[int], reduction_factor: int, *, pauses: bool = True) -> None:
        self.rungs = [Rung(step) for step in steps]
        self._factor = reduction_factor
        self._pauses = pauses
        self._passed: dict[int, int] = {}

    def add(self, number: int, step: int, value: float) -> Rung | None:
        """Enter a report, and return the rung that the trial reached with it, if any."""
        reached = None
        for rung in self.rungs[self._passed.get(number, 0) :]:
            if step < rung.step:
                break
            reached = rung
            self._passed[number] = self._passed.get(number, 0) + 1
            rung.values[number] = value
        return reached

    def enter(self, number: int, values: Mapping[int, float]) -> None:
        """Enter the reports of an earlier search's trial.

        The trial passes a rung without a report at its step, but does not fill it: values of other steps cannot be
        compared there.
        """
        last = max(values, default=0)
        for rung in self.rungs:
            if rung.step > last:
                break
            self._passed[number] = self._passed.get(number, 0) + 1
            if rung.step in values:
                rung.values[number] = values[rung.step]

    def rung_at(self, step: int) -> Rung | None:
        """Return the rung at a step, if there is one."""
        return next((rung for rung in self.rungs if rung.step == step), None)

    def verdict(self, rung: Rung, number: int, *, is_final: bool = False) -> Verdict:
        """Decide on a trial at a rung.

        The best 1 / ``reduction_factor`` of the trials that reached the rung go on. Another trial waits as long as
        ``reduction_factor`` ² further trials, if all were worse, would promote it.

        Args:
            is_final: whether no further trial will reach the rung. At least one trial goes on then.
        """
        count, rank = len(rung.values), rung.rank(number)
        if not self._pauses:
            return Verdict.GO if rank <= math.ceil(count / self._factor) else Verdict.STOP
        if rank <= max(count // self._factor, is_final):
            return Verdict.GO
        if is_final or rank * self._factor - count > self._factor**2:
            return Verdict.STOP
        return Verdict.WAIT


def _comparable(value: float) -> float:
    return -math.inf if math.isnan(value) else value
