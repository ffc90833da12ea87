"""What can become of a trial, and what Optuna is told of each: the one place where that is decided."""

from enum import StrEnum

from optuna.trial import TrialState


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
    "load_s",
    "train_s",
    "eval_s",
    "tokens_per_s",
)
"""What every launched trial stores beside its outcome and reason; null where it did not become known."""

EPOCH_METRICS = "metrics.epoch_"
"""Beginning of the names of the attributes that hold what was measured in one epoch."""
