"""Registry of schedulers: all that is known of each before Ray is imported, ours and those of other distributions.

A distribution adds one by an entry point of the group ``headroom.schedulers``; see ``trainables.registry``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainables.registry import Entry, Registry

StoppingSteps = Callable[[int, int, int], list[int]]
"""Function of a complete trial's steps, the first step at which it may be stopped, and the reduction factor.

It returns the steps after which trials are compared, ascending. The last step is never among them, because a trial ends
there by itself.
"""


@dataclass(frozen=True, kw_only=True)
class SchedulerEntry(Entry):
    """Scheduler that ``scheduler.name`` chooses.

    Attributes:
        build: address (``module:function``) of the function that makes the scheduler for Ray from
            ``SchedulerFacts`` (``tune_app.distributed.scheduler``). It is imported when a search starts.
        stopping_steps: steps after which it compares trials.
        stops: whether it stops trials.
        needs_checkpoints: whether paused trials resume from checkpoints, so that a search without them is refused.
        ask_ahead: number of trials that wait beside the running ones, because the scheduler compares them together.
        why_nothing: returns why it could not stop any trial of so many steps, with so many before the first rung and a
            reduction factor; None leaves the reason to the caller.
    """

    build: str
    stopping_steps: StoppingSteps
    stops: bool = True
    needs_checkpoints: bool = False
    ask_ahead: int = 0
    why_nothing: Callable[[int, int, int], str] | None = None


def _asha_steps(steps: int, warmup: int, reduction_factor: int) -> list[int]:
    return _rungs(steps, warmup, reduction_factor, most=steps)


def _hyperband_steps(steps: int, warmup: int, reduction_factor: int) -> list[int]:
    """Return the rungs of all brackets, placed as Ray places them."""
    brackets = 1 + round(math.log(steps) / math.log(reduction_factor))
    first = {bracket: int(steps * float(reduction_factor) ** -bracket) for bracket in range(brackets)}
    per_bracket = [
        _rungs(steps, begin, reduction_factor, most=bracket) for bracket, begin in first.items() if begin >= warmup
    ]
    return sorted({step for rungs in per_bracket for step in rungs})


def _rungs(steps: int, first: int, factor: int, *, most: int) -> list[int]:
    """Return at most so many of first, first x factor, first x factor^2, … that are below ``steps``."""
    ascending: list[int] = []
    while first < steps and len(ascending) < most:
        ascending.append(first)
        first *= factor
    return ascending


def _why_hyperband_stops_nothing(steps: int, warmup: int, reduction_factor: int) -> str:
    return (
        f"the last possible rung is {steps} / {reduction_factor}, rounded down {steps // reduction_factor}, which is"
        f" less than scheduler.warmup {warmup}"
    )


def _no_steps(*_: Any) -> list[int]:
    return []


SCHEDULERS = Registry(
    "headroom.schedulers",
    SchedulerEntry,
    {
        "asha": SchedulerEntry(build="tune_app.distributed.asha:build", stopping_steps=_asha_steps),
        "hyperband": SchedulerEntry(
            build="tune_app.distributed.hyperband:build",
            stopping_steps=_hyperband_steps,
            needs_checkpoints=True,
            # HyperBand compares the trials of a bracket, so it must see the next one while another runs.
            ask_ahead=1,
            why_nothing=_why_hyperband_stops_nothing,
        ),
        "none": SchedulerEntry(
            build="tune_app.distributed.scheduler:build_none", stopping_steps=_no_steps, stops=False
        ),
    },
    section="scheduler",
)
