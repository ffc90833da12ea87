"""Final values of trials that were stopped, wait or still run, projected from their last report.

A sampler learns from all trials at once, but early stopping leaves most of them with early reports, which lie below
the final ones. Ranked by how far they came, complete trials are good whatever they are worth, and the first few that
completed teach for the rest of the search. Projected to their end, all trials are ranked by value.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Reported:
    """A trial's reports.

    Attributes:
        values: report by step, none of them NaN; at least one.
        final: value of a trial that completed; None for any other.
    """

    values: Mapping[int, float]
    final: float | None = None

    @property
    def last_step(self) -> int:
        return max(self.values)


def projected_values(trials: Sequence[Reported]) -> list[float]:
    """Return each trial's final value, or its last report plus the mean gain of the trials that went on from there.

    Gains are summed from rung to rung: the steps at which trials ended. Those that went on are the better ones at a
    rung, which early noise favoured, so that their mean gain is a careful one. A rung that no trial left adds nothing.
    """
    rungs = sorted({trial.last_step for trial in trials if trial.final is None})
    gains = [_mean(_gains(trials, step, beyond)) for step, beyond in pairwise([*rungs, None])]
    to_end = {step: sum(gains[place:]) for place, step in enumerate(rungs)}
    return [
        trial.values[trial.last_step] + to_end[trial.last_step] if trial.final is None else trial.final
        for trial in trials
    ]


def _gains(trials: Iterable[Reported], step: int | None, beyond: int | None) -> list[float]:
    """Return what trials gained from one step to another, or to their end."""
    assert step is not None, "only the last of a pair is open"
    pairs = ((trial.values.get(step), trial.final if beyond is None else trial.values.get(beyond)) for trial in trials)
    return [later - value for value, later in pairs if value is not None and later is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
