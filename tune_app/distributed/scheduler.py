"""Schedulers for the setting ``scheduler.name``. All of them count a trial's own, absolute steps."""

import math
from collections.abc import Callable, Sequence

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_app.distributed.asha import Asha
from tune_app.distributed.hyperband import LenientHyperBand
from tune_app.distributed.messages import STEP, VALUE
from tune_app.distributed.spared import PastTrial, Spared


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
) -> TrialScheduler:
    """Build the scheduler for the setting ``scheduler.name``.

    Args:
        steps: steps of a complete trial, which are epochs, rungs within epochs, or folds.
        warmup: first step at which a trial may be stopped.
        reduction_factor: one trial in this many survives a rung.
        startup_trials: number of first trials of the study that are never stopped.
        past: launched trials that the study already holds.
        no_more: returns whether no further trial will be launched.
        slots: trials that may run at a time.
        pauses: whether trials write checkpoints and so can wait. HyperBand needs this.

    Raises:
        ValueError: the name is unknown.
    """
    spared = Spared(startup_trials, past)
    if name == "asha":
        return Asha(
            steps=steps,
            warmup=warmup,
            reduction_factor=reduction_factor,
            spared=spared,
            past=past,
            no_more=no_more,
            slots=slots,
            pauses=pauses,
        )
    if name == "hyperband":
        return LenientHyperBand(
            time_attr=STEP,
            metric=VALUE,
            mode="max",
            max_t=steps,
            reduction_factor=reduction_factor,
            spared=spared,
            warmup=warmup,
            # The last rung may lie before a trial's end, and its survivors run to the end.
            stop_last_trials=False,
        )
    if name == "none":
        return FIFOScheduler()
    raise ValueError(f"scheduler.name: {name!r} is not asha, hyperband or none")


def waiting_trials(scheduler: TrialScheduler) -> frozenset[int]:
    """Return the numbers of the paused trials. They hold no slot, so other trials may be launched meanwhile."""
    return scheduler.waiting if isinstance(scheduler, Asha | LenientHyperBand) else frozenset()
