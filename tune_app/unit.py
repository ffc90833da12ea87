"""The unit in which trials report and schedulers count: an epoch, or a fold where the data is in folds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

UnitName = Literal["epoch", "fold"]


@dataclass(frozen=True)
class Unit:
    """``count`` is how many a trial reports that nothing ends early."""

    name: UnitName
    count: int

    @property
    def setting(self) -> str:
        """The setting that says how many there are."""
        return "data.folds" if self.name == "fold" else "train.epochs"

    def __str__(self) -> str:
        return f"{self.count} {self.name}{'s' if self.count != 1 else ''}"


def telling_step(unit: UnitName, values: Mapping[int, float]) -> int:
    """The step whose report stands for the trial: its best epoch, the first among equals, or its last fold.

    A fold's report is a mean over all folds so far. 0 where there are no values.
    """
    if unit == "fold":
        return max(values, default=0)
    best = max(values.values(), default=None)
    return min((step for step, value in values.items() if value == best), default=0)


def value_so_far(unit: UnitName, values: Mapping[int, float]) -> float | None:
    """What a trial is worth by its reports so far; None before the first."""
    return values.get(telling_step(unit, values))
