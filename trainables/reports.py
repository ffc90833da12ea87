"""Reports of a running trial, sent through its ``report`` callable. Nothing else leaves a trial."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fact = bool | int | float | str | None

Breakdown = Mapping[str, Mapping[str, float]]
"""Scores or counts of parts of the rows: part → name → value."""
Breakdowns = Mapping[str, Breakdown]
"""Breakdowns by their names, under which the study stores them."""

BY_CRITERION, CONFUSION, BY_SPAN_LENGTH = "by_criterion", "confusion", "by_span_length"
"""Names of breakdowns.

The scores of every criterion; the rows of every true class by predicted class, without zeros; the scores of spans by
their number of words.
"""

FOLD_EPOCH, FOLD_EPOCHS, FOLD_DEVIATION = "fold_epoch", "fold_epochs", "fold_deviation"
"""Names of a trial's metrics in folds.

Their values are the last fold's best epoch, its number of epochs, and the standard deviation of the objective over the
folds so far.
"""

CORRECTED_VALUE = "corrected_value"
"""Fact of a trial whose validation part was redrawn: its objective on rows that did not choose its best epoch."""

VALUE_DEVIATION = "value_deviation"
"""Fact of such a trial: the standard deviation of its objective over other validation rows of the same number."""

RESAMPLED = "resampled_values"
"""Fact of a run that scored the test part: its objective on resampled groups, as numbers separated by blanks."""


@dataclass(frozen=True)
class TrialReport:
    """The state of a trial after a step, or at its end.

    A step is an epoch. With several rungs per epoch it is a rung, and for data in folds it is a fold.

    Attributes:
        step: number of finished steps, absolute even in a resumed trial. The end of epoch e is step e *
            ``rungs.per_epoch``.
        value: the objective of this epoch or rung, or its mean over the folds so far; NaN in the report of an
            out-of-memory end, and before the first fold ends.
        fold_epoch: in a report from within a fold, the number of its finished epochs. Such a report carries a
            checkpoint to resume from and is no step: nothing is judged by it. None in all other reports.
        metrics: everything measured in this epoch or rung, or its mean over the folds so far, by name. The
            ``train_loss`` of an inner rung is the mean over the epoch so far; inner rungs have no ``collapsed``.
        facts: facts about the trial so far, under the attribute names of the study.
        ended: None while the trial continues; ``complete`` after its last step or when its patience ended it; ``oom``
            when memory ran out.
        reason: the reason for an end before the last step; one line.
        checkpoint: folder with the current state, or None. The receiver may move it.
        breakdowns: scores of parts of the rows at the end of the best epoch so far, or over the folds; otherwise empty.
    """

    step: int
    value: float
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    ended: Literal["complete", "oom"] | None = None
    reason: str | None = None
    checkpoint: Path | None = None
    fold_epoch: int | None = None
    breakdowns: Breakdowns = field(default_factory=dict)


Report = Callable[[TrialReport], None]
