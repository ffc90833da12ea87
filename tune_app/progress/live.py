"""The driver's knowledge of a trial in progress."""

from dataclasses import dataclass, field
from typing import Any

from trainables.reports import Breakdowns
from tune_app.outcomes import TrialError
from tune_app.step_scale import StepScale
from tune_app.study.times import TrialClock


@dataclass
class Live:
    """Trial in progress with its reports so far, including those of earlier searches that the study holds.

    ``values`` holds the objective by step, counted on ``step_scale``. ``fold_epoch`` is the epoch of the current fold;
    None between folds and without folds. ``heard_at`` is the monotonic time of the last start or report. ``waits`` is
    whether the scheduler paused the trial. ``clock`` counts the trial's time in each state.
    """

    number: int
    params: dict[str, Any]
    step_scale: StepScale
    clock: TrialClock
    values: dict[int, float] = field(default_factory=dict)
    ended: str | None = None
    reason: str | None = None
    fold_epoch: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    breakdowns: Breakdowns = field(default_factory=dict)
    error: TrialError | None = None
    retries: int = 0
    waits: bool = False
    heard_at: float = 0.0

    @property
    def step(self) -> int:
        """Number of finished steps."""
        return max(self.values, default=0)

    @property
    def representative_step(self) -> int:
        """Step whose report represents the trial; see ``StepScale.representative_step``."""
        return self.step_scale.representative_step(self.values)
