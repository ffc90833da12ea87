"""Scale of the steps at which trials report and schedulers compare them: epochs, fractions of one, or folds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

StepName = Literal["epoch", "rung", "fold"]


@dataclass(frozen=True)
class StepScale:
    """Scale of a trial's steps.

    Attributes:
        count: number of steps of a trial that nothing ends early.
        per_epoch: number of steps in an epoch; if it is above 1, a step is a rung.
    """

    name: StepName
    count: int
    per_epoch: int = 1

    @classmethod
    def of(cls, *, folds: int | None, epochs: int, per_epoch: int = 1) -> "StepScale":
        """Build the scale of trials with these settings; folds are never cut into rungs."""
        if folds is not None:
            return cls("fold", folds)
        return cls("epoch" if per_epoch == 1 else "rung", epochs * per_epoch, per_epoch)

    @property
    def setting(self) -> str:
        """Setting that determines the number of steps."""
        return "data.folds" if self.name == "fold" else "train.epochs"

    @property
    def is_fold(self) -> bool:
        return self.name == "fold"

    @property
    def noun(self) -> str:
        """Noun of the scale on which steps are shown to people."""
        return "fold" if self.is_fold else "epoch"

    def shown(self, step: int) -> str:
        """Return a step as shown to people: ``3``, or ``0.75`` if a rung is a quarter of an epoch."""
        return f"{step / self.per_epoch:.4g}"

    def label(self, step: int) -> str:
        """Return ``epoch 3``, ``epoch 0.75`` or ``fold 2``."""
        return f"{self.noun} {self.shown(step)}"

    def representative_step(self, values: Mapping[int, float]) -> int:
        """Return the step whose report represents the trial: its best whole epoch, or its last fold; 0 without one.

        Among equal epochs the first counts. A fold's report is a mean over all folds so far.
        """
        if self.is_fold:
            return max(values, default=0)
        whole = {step: value for step, value in values.items() if step % self.per_epoch == 0}
        best = max(whole.values(), default=None)
        return min((step for step, value in whole.items() if value == best), default=0)

    def value_so_far(self, values: Mapping[int, float]) -> float | None:
        """Return a trial's value from its reports so far; None before the first whole epoch or fold."""
        return values.get(self.representative_step(values))

    def last_value(self, values: Mapping[int, float]) -> float | None:
        """Return a trial's value so far or, before its first whole epoch, that of its last report."""
        value = self.value_so_far(values)
        return values[max(values)] if value is None and values else value

    def __str__(self) -> str:
        if self.name == "rung":
            return f"{self.count // self.per_epoch} epochs in {self.count} rungs"
        return f"{self.count} {self.name}{'s' if self.count != 1 else ''}"
