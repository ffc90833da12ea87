"""Schedulers for the setting ``scheduler.name``. All of them count a trial's own, absolute steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_app.distributed.spared import PastTrial, Spared
from tune_app.schedulers import SCHEDULERS


@dataclass(frozen=True)
class SchedulerFacts:
    """Knowledge of a search from which its scheduler is made.

    A scheduler that pauses trials has the numbers of those that hold no slot as its ``waiting``.

    Attributes:
        steps: steps of a complete trial, which are epochs, rungs within epochs, or folds.
        warmup: first step at which a trial may be stopped.
        reduction_factor: one trial in this many survives a rung.
        spared: trials that are never stopped.
        past: launched trials that the study already holds.
        no_more: returns whether no further trial will be launched.
        slots: trials that may run at a time.
        pauses: whether trials write checkpoints and so can wait.
        settings: settings of the section ``scheduler``, those that the scheduler adds included.
    """

    steps: int
    warmup: int
    reduction_factor: int
    spared: Spared
    past: Sequence[PastTrial]
    no_more: Callable[[], bool]
    slots: float
    pauses: bool
    settings: Mapping[str, Any]


def build_scheduler(
    name: str,
    *,
    steps: int,
    warmup: int,
    reduction_factor: int,
    startup_trials: int,
    past: Sequence[PastTrial] = (),
    no_more: Callable[[], bool] = lambda: False,
    slots: float = math.inf,
    pauses: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> TrialScheduler:
    """Build the scheduler for the setting ``scheduler.name``; see ``SchedulerFacts``.

    Args:
        startup_trials: number of first trials of the study that are never stopped.

    Raises:
        ValueError: there is no such scheduler.
    """
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler.name: {name!r} is none of {', '.join(SCHEDULERS)}")
    build: Callable[[SchedulerFacts], TrialScheduler] = resolve_name(SCHEDULERS[name].build)
    return build(
        SchedulerFacts(
            steps=steps,
            warmup=warmup,
            reduction_factor=reduction_factor,
            spared=Spared(startup_trials, past),
            past=past,
            no_more=no_more,
            slots=slots,
            pauses=pauses,
            settings=settings or {},
        )
    )


def build_none(facts: SchedulerFacts) -> TrialScheduler:
    """Return the scheduler that stops no trial."""
    return FIFOScheduler()


def waiting_trials(scheduler: TrialScheduler) -> frozenset[int]:
    """Return the numbers of the paused trials. They hold no slot, so other trials may be launched meanwhile."""
    return frozenset(getattr(scheduler, "waiting", ()))
