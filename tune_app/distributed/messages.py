"""Keys of the two messages between driver and worker: a trial's launch, and its reports."""

from collections.abc import Mapping
from typing import Any

NUMBER, PARAMS, RESUME_FROM, GPU, RECOMMENDED = "number", "params", "resume_from", "gpu", "recommended"
"""Keys of a launch, which Ray transports as the trial's configuration."""

METRIC, TIME = "value", "step"
ENDED, FOLD_EPOCH = "ended", "fold_epoch"
HALTED = "halted"
"""End of a trial for a reason that would stop any trial: it stays open, and the search ends."""
METRICS, FACTS, REASON, ERROR, BY_CRITERION = "metrics", "facts", "reason", "error", "by_criterion"
"""Keys of a report, which Ray transports as a result."""


def number_of(trial: Any) -> int:
    """Return the study's number of a Ray trial."""
    return int(trial.config[NUMBER])


def is_recommended(trial: Any) -> bool:
    """Return whether a Ray trial runs a recommended configuration."""
    return bool(trial.config.get(RECOMMENDED))


def decides_nothing(result: Mapping[str, Any]) -> bool:
    """Return whether a report leaves the scheduler no decision: the trial ends anyway, or is within a fold."""
    return bool(result.get(ENDED)) or result.get(FOLD_EPOCH) is not None
