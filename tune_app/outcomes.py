"""What can become of a trial, and what Optuna is told of each: the one place where that is decided."""

import re
from dataclasses import dataclass
from enum import StrEnum

from optuna.trial import FrozenTrial, TrialState

MOST_RETRIES = 2
"""How often a trial is run again that died through no fault of its configuration."""


class Outcome(StrEnum):
    """What became of a trial. The values are stored in studies and printed in JSON."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    OOM = "oom"
    INFEASIBLE = "infeasible"
    FAILED = "failed"

    @property
    def state(self) -> TrialState:
        """The state in which Optuna keeps such a trial: TPE learns from all but the failed."""
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
"""What every launched trial stores beside its outcome and reason; null where it did not become known."""


def metrics_attribute(unit: str, step: int) -> str:
    """Return the name of the attribute with the metrics of one epoch or rung, or of the folds up to one."""
    return f"metrics.{unit}_{step}"


def step_of_metrics(attribute: str) -> int | None:
    """The step whose measures an attribute of this name holds; None where it holds something else."""
    named = re.fullmatch(r"metrics\.(?:epoch|rung|fold)_(\d+)", attribute)
    return int(named[1]) if named else None


BY_CRITERION_ATTRIBUTE = "by_criterion"
"""Attribute that holds the scores of every criterion in the best epoch, or over the folds: criterion → name → value."""

WAITS_ATTRIBUTE = "waits_at"
"""Attribute of an open trial that its scheduler paused: the step of its last report; null once it goes on."""

FACTS_ATTRIBUTE = "facts"
"""Attribute of an open trial: the facts that it reported so far, by the names of attributes."""

PASSED_OVER_ATTRIBUTE = "passed_over"
"""Attribute of a trial that could not go on from its newest checkpoint: why, and where it went on instead."""

RECOMMENDED_ATTRIBUTE = "recommended"
"""Attribute of a trial that runs a recommended configuration; absent from all others."""

CARRIED_ATTRIBUTE = "carried_from"
"""Attribute of a trial that another study launched: which one, and its number there."""


@dataclass(frozen=True)
class Origin:
    """The study that launched a trial, by its name, and the trial's number there."""

    study: str
    trial: int

    def __str__(self) -> str:
        return f"trial {self.trial} of {self.study}"


def carried_from(trial: FrozenTrial) -> Origin | None:
    """Where a trial was launched that another study took over; None for a study's own."""
    stored = trial.user_attrs.get(CARRIED_ATTRIBUTE)
    return Origin(**stored) if stored else None
