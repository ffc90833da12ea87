"""A trial in progress as the driver knows it."""

from dataclasses import dataclass, field
from typing import Any

from tune_app.study.times import TrialClock
from tune_app.unit import Unit


@dataclass
class Live:
    """What a trial has reported so far, over all its resumes where they left values in the study.

    ``values`` holds the objective by step, counted in ``unit``. ``fold_epoch`` tells how far the fold in hand is; None
    between folds, and where there are none. ``heard_at`` is when it last started or reported, on the monotonic
    clock. ``waits`` tells that the scheduler paused it. ``clock`` counts how its time was spent.
    """

    number: int
    params: dict[str, Any]
    unit: Unit
    clock: TrialClock
    values: dict[int, float] = field(default_factory=dict)
    ended: str | None = None
    reason: str | None = None
    fold_epoch: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    by_criterion: dict[str, dict[str, float]] = field(default_factory=dict)
    error: dict[str, str] | None = None
    retries: int = 0
    waits: bool = False
    heard_at: float = 0.0

    @property
    def step(self) -> int:
        """Steps finished."""
        return max(self.values, default=0)

    @property
    def telling_step(self) -> int:
        """The step whose report stands for the trial, as the trial itself counts it."""
        return self.unit.telling_step(self.values)
