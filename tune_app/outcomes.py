"""Outcomes of trials, and the state in which Optuna records each of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from optuna.trial import FrozenTrial, TrialState

from trainables.reports import BY_CRITERION, BY_SPAN_LENGTH, CONFUSION

MOST_RETRIES = 2
"""Number of times to run a trial again that died through no fault of its configuration."""


class Outcome(StrEnum):
    """Outcome of a trial. The values are stored in studies and printed in JSON."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    OOM = "oom"
    INFEASIBLE = "infeasible"
    FAILED = "failed"

    @property
    def state(self) -> TrialState:
        """State in which Optuna records such a trial. TPE learns from all but the failed ones."""
        return _STATES[self]


_STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.STOPPED: TrialState.PRUNED,
    Outcome.OOM: TrialState.PRUNED,
    Outcome.INFEASIBLE: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}

OUTCOME_ATTRIBUTE = "outcome"
REASON_ATTRIBUTE = "reason"


@dataclass(frozen=True)
class TrialError:
    """Error of a failed trial, as its attributes store it."""

    error_type: str
    error_message: str
    error_traceback: str = ""

    @property
    def line(self) -> str:
        """Type and first line of the message."""
        return f"{self.error_type}: {self.error_message}".splitlines()[0]


TRIAL_ATTRIBUTES = (
    "effective_batch",
    "micro_batch",
    "accumulation_steps",
    "eval_batch",
    "predicted_gib",
    "peak_gib",
    "budget_gib",
    "gpu_fraction",
    "recoveries",
    "collapsed",
    "working_s",
    "waiting_s",
    "paused_s",
    "load_s",
    "train_s",
    "eval_s",
    "seconds_per_sample",
    "tokens_per_s",
)
"""Attributes that every launched trial stores besides its outcome and reason; null if unknown."""


def metrics_attribute(unit: str, step: int) -> str:
    """Return the name of the attribute for the metrics of one epoch or rung, or of all folds up to one."""
    return f"metrics.{unit}_{step}"


def step_of_metrics(attribute: str) -> int | None:
    """Return the step whose metrics an attribute of this name holds; None if it holds something else."""
    named = re.fullmatch(r"metrics\.(?:epoch|rung|fold)_(\d+)", attribute)
    return int(named[1]) if named else None


BREAKDOWN_ATTRIBUTES = (BY_CRITERION, CONFUSION, BY_SPAN_LENGTH)
"""Attributes that hold scores of parts of the rows in the best epoch, or over the folds: part → name → value."""

WAITS_ATTRIBUTE = "waits_at"
"""Attribute of an open trial that its scheduler paused: the step of its last report; null once the trial goes on."""

FACTS_ATTRIBUTE = "facts"
"""Attribute of an open trial: the facts that it has reported so far, by attribute name."""

PASSED_OVER_ATTRIBUTE = "passed_over"
"""Attribute of a trial that could not resume from its newest checkpoint: the reason, and where it resumed instead."""

RECOMMENDED_ATTRIBUTE = "recommended"
"""Attribute of a trial that runs a recommended configuration; absent from all others."""

CARRIED_ATTRIBUTE = "carried_from"
"""Attribute of a trial that another study launched: the study's name and the trial's number there."""


@dataclass(frozen=True)
class Origin:
    """Origin of a trial: the name of the study that launched it, and its number there."""

    study: str
    trial: int

    def __str__(self) -> str:
        return f"trial {self.trial} of {self.study}"


def carried_from(trial: FrozenTrial) -> Origin | None:
    """Return the origin of a trial that was carried over; None for a study's own trial."""
    stored = trial.user_attrs.get(CARRIED_ATTRIBUTE)
    return Origin(**stored) if stored else None


def own_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that the study launched itself. The others' checkpoints belong to another study."""
    return [trial for trial in trials if carried_from(trial) is None]
