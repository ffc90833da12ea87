"""The learning-rate schedules: what each reads, and its shape. Cheap to import (no torch)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.registry import Entry, Registry

if TYPE_CHECKING:
    from trainables.settings import ScheduleSettings

# Smith and Topin, "Super-Convergence" (2018), with the values of torch's OneCycleLR: the first rate is a 25th of the
# peak, the last a 10,000th of the first.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 10_000


def between(start: float, end: float, done: float) -> float:
    """Return the value at ``done`` on half a cosine from ``start`` to ``end``."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class Schedule(Entry):
    """A learning-rate schedule, as shares of the peak rate.

    Attributes:
        falls: share after a share ``done`` of the steps that follow the warm-up, from 0 to 1.
        rises: share after a share ``risen`` of the warm-up, above 0 and below 1.
    """

    falls: Callable[[float, "ScheduleSettings"], float]
    rises: Callable[[float], float] = lambda risen: risen


def _restarting(done: float, settings: "ScheduleSettings") -> float:
    # At the very end the last cosine is over, and no other begins.
    return 0.0 if done >= 1.0 else between(1.0, 0.0, done * settings.cycles % 1.0)


SCHEDULES = Registry(
    "headroom.schedules",
    Schedule,
    {
        "linear": Schedule(falls=lambda done, _: 1.0 - done),
        "cosine": Schedule(falls=lambda done, _: between(1.0, 0.0, done)),
        "cosine_restarts": Schedule(falls=_restarting, reads=frozenset({"schedule.cycles"})),
        "polynomial": Schedule(
            falls=lambda done, settings: (1.0 - done) ** settings.power, reads=frozenset({"schedule.power"})
        ),
        "one_cycle": Schedule(
            falls=lambda done, _: between(1.0, _ONE_CYCLE_END, done),
            rises=lambda risen: between(_ONE_CYCLE_START, 1.0, risen),
        ),
        "constant": Schedule(falls=lambda done, _: 1.0),
    },
    section="schedule",
)
"""Schedules by ``schedule.name``."""
