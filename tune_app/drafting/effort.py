"""Effort of a draft's search: epochs, trials and rows that one night on the machine allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.models.names import BUILTIN_NAMES

if TYPE_CHECKING:
    from trainables.pace import Pace

NIGHT_H = 10.0
FEWEST_TRIALS = 12
# The best of more trials is ever more the luckiest one.
_TRIALS = (12, 16, 20, 24, 30, 40, 50)
_FEW_ROWS = 5_000
_LEAST_ROWS = 1_000
_SLOW_LEARNERS_EPOCHS = 6


@dataclass(frozen=True)
class Effort:
    """Effort of a search.

    Attributes:
        trials: launched trials.
        max_rows: rows to use; None for all.
        hours: hours that the trials take if none is stopped early.
    """

    trials: int
    max_rows: int | None
    hours: float

    def on_all_rows(self, rows: int) -> "Effort":
        """Return the same trials on all rows."""
        return self if self.max_rows is None else Effort(self.trials, None, self.hours * rows / self.max_rows)


UNKNOWN = Effort(FEWEST_TRIALS, None, 0.0)
"""Effort before anything was timed."""


def epochs_for(models: Sequence[str], train_rows: int, *, finds_spans: bool) -> tuple[int, str]:
    """Return the number of epochs, and the reason for it."""
    if finds_spans:
        return _SLOW_LEARNERS_EPOCHS, "Spans are learned late: for a hundred steps or more a trial finds none."
    if set(models) <= set(BUILTIN_NAMES):
        return _SLOW_LEARNERS_EPOCHS, "Encoders without pretraining need more epochs."
    if train_rows < _FEW_ROWS:
        return 4, f"Four where the training part is small ({train_rows:,} rows), else three."
    return 3, f"Three are enough for {train_rows:,} training rows."


def trial_hours(pace: "Pace", epochs: int, train_inputs: float, evaluated_inputs: float) -> float:
    """Return the hours of one trial's training and evaluation.

    Args:
        train_inputs: inputs of the training part.
        evaluated_inputs: inputs that an epoch evaluates.
    """
    return epochs * (train_inputs * pace.train_s + evaluated_inputs * pace.evaluate_s) / 3600


def inputs_per_row(lengths: Sequence[int], max_length: int, doc_stride: int | None) -> float:
    """Return the mean number of inputs of a row.

    Args:
        lengths: lengths of uncut inputs in tokens.
        doc_stride: tokens that neighbouring windows share; None if texts are cut instead.
    """
    if doc_stride is None:
        return 1.0
    step = max_length - doc_stride
    return sum(1 + max(0, -(-(length - max_length) // step)) for length in lengths) / len(lengths)


def effort_for(hours_of_model: Mapping[str, float], rows: int, side_by_side: int) -> Effort:
    """Return the most trials that one night allows, on fewer rows if it allows too few.

    Args:
        hours_of_model: hours of one trial, by model; trials spread evenly over the models.
        rows: all rows.
        side_by_side: trials that run at a time without slowing each other down.
    """
    hours = sum(hours_of_model.values()) / len(hours_of_model) / side_by_side
    trials = next((trials for trials in reversed(_TRIALS) if trials * hours <= NIGHT_H), FEWEST_TRIALS)
    if trials * hours <= NIGHT_H:
        return Effort(trials, None, trials * hours)
    share = NIGHT_H / (trials * hours)
    most = max(_LEAST_ROWS, _rounded_down(rows * share))
    return Effort(trials, None, trials * hours) if most >= rows else Effort(trials, most, trials * hours * most / rows)


def _rounded_down(rows: float) -> int:
    """Return a number with two digits that are not zero."""
    digit: int = 10 ** max(0, len(str(int(rows))) - 2)
    return int(rows) // digit * digit
