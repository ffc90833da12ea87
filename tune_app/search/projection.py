"""Final values of trials that were stopped, wait or still run, projected from their last report.

A sampler learns from all trials at once, but early stopping leaves most of them with early reports, which lie below
the final ones. Ranked by how far they came, complete trials are good whatever they are worth, and the first few that
completed teach for the rest of the search. Projected to their end, all trials are ranked by value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Reported:
    """A trial's reports.

    Attributes:
        values: report by step; at least one.
        final: value of a trial that completed; None for any other.
    """

    values: Mapping[int, float]
    final: float | None = None

    @cached_property
    def last_step(self) -> int:
        return max(self.values)


def gains_to_end(trials: Sequence[Reported]) -> dict[int, float]:
    """Return, by the steps at which trials stand or stopped, what such a trial can be expected to gain until its end.

    The gain is the sum of mean gains from rung to rung, each over the trials that went on there. Those are the better
    ones at a rung, which early noise favoured, so that their mean gain is a careful one. A rung that no trial left adds
    nothing.
    """
    rungs = sorted({trial.last_step for trial in trials if trial.final is None})
    gains: dict[int, float] = {}
    to_end = 0.0
    beyond = None
    for step in reversed(rungs):
        to_end += _mean_gain(trials, step, beyond)
        gains[step] = to_end
        beyond = step
    return gains


def _mean_gain(trials: Iterable[Reported], step: int, beyond: int | None) -> float:
    """Return the mean gain from one step to another, or to the end; 0 where no trial has both values."""
    gains = []
    for trial in trials:
        later = trial.final if beyond is None else trial.values.get(beyond)
        if later is not None and step in trial.values:
            gains.append(later - trial.values[step])
    return sum(gains) / len(gains) if gains else 0.0
