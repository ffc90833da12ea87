"""Projection of the final values of stopped, waiting and running trials from their last report.

A sampler learns from all trials at once. Early stopping leaves most of them with early reports, which are below the
final ones. If trials were ranked by their progress, complete trials would count as good whatever their values. The
first few would then shape the rest of the search. Projected to their end, all trials can be ranked by value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Reported:
    """Reports of a trial.

    Attributes:
        values: reported value by step; at least one.
        final: final value of a complete trial; None for any other.
    """

    values: Mapping[int, float]
    final: float | None = None

    @cached_property
    def last_step(self) -> int:
        return max(self.values)


def gains_to_end(trials: Sequence[Reported]) -> dict[int, float]:
    """Return the expected gain until the end, by the step at which a trial stands or stopped.

    The gain is the sum of the mean gains from rung to rung, each over the trials that went on there. Those trials are
    the better ones at a rung and were favoured by early noise, so their mean gain is conservative. A rung that no trial
    left adds nothing.
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
    """Return the mean gain from one step to another, or to the end; 0 if no trial has both values."""
    gains = []
    for trial in trials:
        later = trial.final if beyond is None else trial.values.get(beyond)
        if later is not None and step in trial.values:
            gains.append(later - trial.values[step])
    return sum(gains) / len(gains) if gains else 0.0
