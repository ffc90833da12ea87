"""Effort of a draft's search: epochs, trials and rows that one night on the machine allows."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.models.names import BUILTIN_NAMES
from tune_app.forecast.hours import Range

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
        hours: planned hours of the search; None before anything was planned.
    """

    trials: int
    max_rows: int | None = None
    hours: Range | None = None

    def on_all_rows(self, rows: int) -> "Effort":
        """Return the same trials on all rows."""
        if self.max_rows is None or self.hours is None:
            return self
        return Effort(self.trials, None, _scaled(self.hours, rows / self.max_rows))


UNPLANNED = Effort(_TRIALS[-1])
"""Effort to plan first: the most trials, on all rows."""


def epochs_for(models: Sequence[str], train_rows: int, *, finds_spans: bool) -> tuple[int, str]:
    """Return the number of epochs, and the reason for it."""
    if finds_spans:
        return _SLOW_LEARNERS_EPOCHS, "Spans are learned late: for a hundred steps or more a trial finds none."
    if set(models) <= set(BUILTIN_NAMES):
        return _SLOW_LEARNERS_EPOCHS, "Encoders without pretraining need more epochs."
    if train_rows < _FEW_ROWS:
        return 4, f"Four where the training part is small ({train_rows:,} rows), else three."
    return 3, f"Three are enough for {train_rows:,} training rows."


def effort_for(hours: Range, rows: int) -> Effort:
    """Return the most trials that one night allows, on fewer rows if it allows too few.

    Args:
        hours: planned hours of the effort ``UNPLANNED``. Hours are taken as proportional to trials and rows.
        rows: all rows.
    """
    able = [trials for trials in _TRIALS if hours.high * trials / UNPLANNED.trials <= NIGHT_H]
    if able:
        return Effort(able[-1], None, _scaled(hours, able[-1] / UNPLANNED.trials))
    fewest = _scaled(hours, FEWEST_TRIALS / UNPLANNED.trials)
    most = max(_LEAST_ROWS, _rounded_down(rows * NIGHT_H / fewest.high))
    return (
        Effort(FEWEST_TRIALS, None, fewest)
        if most >= rows
        else Effort(FEWEST_TRIALS, most, _scaled(fewest, most / rows))
    )


def _scaled(hours: Range, factor: float) -> Range:
    return Range(hours.low * factor, hours.expected * factor, hours.high * factor)


def _rounded_down(rows: float) -> int:
    """Return a number with two digits that are not zero."""
    digit: int = 10 ** max(0, len(str(int(rows))) - 2)
    return int(rows) // digit * digit
