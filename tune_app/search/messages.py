"""Keys of the two messages between driver and worker: a trial's launch, and its reports."""

from collections.abc import Mapping
from typing import Any

NUMBER, PARAMS, RESUME_FROM, GPU, RECOMMENDED = "number", "params", "resume_from", "gpu", "recommended"
"""Keys of a launch, which Ray carries as the trial's configuration."""

METRIC, TIME = "value", "step"
ENDED, FOLD_EPOCH = "ended", "fold_epoch"
HALTED = "halted"
"""The end of a trial that no trial could have run: it stays open, and the search ends."""
METRICS, FACTS, REASON, ERROR, BY_CRITERION = "metrics", "facts", "reason", "error", "by_criterion"
"""Keys of a report, which Ray carries as a result."""


def number_of(trial: Any) -> int:
    """Return the number in the study of one of Ray's trials."""
    return int(trial.config[NUMBER])


def is_recommended(trial: Any) -> bool:
    """Return whether one of Ray's trials runs a recommended configuration."""
    return bool(trial.config.get(RECOMMENDED))


def decides_nothing(result: Mapping[str, Any]) -> bool:
    """Return whether a report says that the trial ends anyway, or was made within a fold."""
    return bool(result.get(ENDED)) or result.get(FOLD_EPOCH) is not None
