"""What a trial says while it runs: the one thing that leaves it, through its ``report`` callable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fact = bool | int | float | str | None

FOLD_EPOCH, FOLD_EPOCHS, FOLD_DEVIATION = "fold_epoch", "fold_epochs", "fold_deviation"
"""Names, among the metrics of a trial in folds, of the last fold's best epoch, of how many epochs it trained, and of
the standard deviation of the objective over the folds so far."""


@dataclass(frozen=True)
class TrialReport:
    """The state of a trial after a step, or at its end.

    A step is an epoch; with several rungs to an epoch it is a rung, and where the data is in folds, a fold.

    Attributes:
        step: steps finished, from 1; absolute, also in a trial that was resumed. The end of epoch e is step
            e * ``rungs.per_epoch``.
        value: the objective of this epoch or rung, or its mean over the folds so far; NaN in the report of an
            out-of-memory end, and before the first fold is finished.
        fold_epoch: in a report from within a fold, epochs finished of it. Such a report brings a checkpoint to go on
            from and is no step: nothing is judged by it. None in all others.
        metrics: everything measured in this epoch or rung, or its mean over the folds so far, by name. The
            ``train_loss`` of an inner rung is the mean over the epoch so far; inner rungs have no ``collapsed``.
        facts: what became known of the trial so far, under the attribute names of the study.
        ended: None while the trial goes on; ``complete`` after its last step or when its patience ended it;
            ``oom`` when memory ran out.
        reason: for an end before the last step, why; one line.
        checkpoint: folder with the state at this moment, or None. The receiver may move it.
        by_criterion: scores of every criterion, where an epoch ends that is the best so far, or over the folds; else
            empty.
    """

    step: int
    value: float
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    ended: Literal["complete", "oom"] | None = None
    reason: str | None = None
    checkpoint: Path | None = None
    fold_epoch: int | None = None
    by_criterion: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


Report = Callable[[TrialReport], None]
