"""Hours of a search, by simulated searches with the study's own scheduler on the trials' seconds."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trainables.declaration import values_of
from tune_app.config import RunConfig
from tune_app.forecast.curves import drawn_curve
from tune_app.forecast.overheads import Overheads
from tune_app.forecast.trial_times import TrialTimes
from tune_app.schedulers import SCHEDULERS
from tune_app.screening.slots import Slots

_SEARCHES = 60
_LEAST_SEARCHES = 5
# A longer search is simulated in part, and its trials' time is extended in proportion.
_MOST_TRIALS = 200
_LOW, _HIGH = 5.0, 95.0
_DRIFT = 0.15
"""Standard deviation of the logarithm of a machine's speed from one search to another, beside what its record shows.

Measured by ``scripts/bench/plan.py``: the spread of taken over planned hours of ten searches.
"""


@dataclass(frozen=True)
class Range:
    """Median over the simulated searches, and the range that holds nine of ten of them."""

    low: float
    expected: float
    high: float

    @classmethod
    def of(cls, hours: Sequence[float]) -> "Range":
        low, expected, high = np.percentile(hours, [_LOW, 50.0, _HIGH])
        return cls(float(low), float(expected), float(high))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class HoursForecast:
    """Hours of a study from its first trial to its last.

    Attributes:
        hours: by the clock.
        gpu_hours: hours times the GPUs that trials hold; 0 on the CPU.
        most_open: most trials that are open at a time, waiting ones included.
    """

    hours: Range
    gpu_hours: Range
    most_open: int


def forecast_hours(
    config: RunConfig,
    times: Sequence[TrialTimes],
    recommended: Sequence[TrialTimes],
    overheads: Overheads,
    *,
    trials: int,
    cards: int,
    seed: int,
    most_s: float,
) -> HoursForecast:
    """Simulate the search many times, each with other trials, curves and speeds.

    Args:
        times: seconds of some random trials, at least one.
        recommended: seconds of the recommended trials that begin the search.
        trials: trials to launch.
        cards: number of cards.
        most_s: seconds after which no further search is simulated.
    """
    from tune_app.distributed.simulated import SchedulerPlan, simulate

    scheduler, entry = config.scheduler, SCHEDULERS[config.scheduler.name]
    plan = SchedulerPlan(
        scheduler.name,
        config.step_scale.count,
        config.first_rung,
        scheduler.reduction_factor,
        scheduler.startup_trials,
        config.checkpoint.is_written,
        entry.ask_ahead,
        values_of(scheduler, with_defaults=True),
    )
    rng = np.random.default_rng(seed)
    slots = config.search.max_concurrent
    simulated = min(trials, _MOST_TRIALS)
    drift = float(np.hypot(_DRIFT, np.mean([one.drift for one in times])))
    hours, gpu_hours, most_open = list[float](), list[float](), 0
    end = time.monotonic() + most_s
    while len(hours) < _SEARCHES and (len(hours) < _LEAST_SEARCHES or time.monotonic() < end):
        speed = float(np.exp(rng.normal(scale=drift)))
        chosen = [*recommended[:simulated], *(times[int(rng.integers(len(times)))] for _ in range(simulated))][
            :simulated
        ]
        scripts = [
            _script(rng, config, one, speed, is_recommended=position < len(recommended))
            for position, one in enumerate(chosen)
        ]
        starts_s = [overheads.first_start_s * speed] * slots
        search = simulate(scripts, plan, Slots(slots, cards), starts_s, overheads.start_s * speed)
        extent = trials / simulated if simulated else 1.0
        beside_s = (overheads.opening_s + overheads.closing_s) * speed
        hours.append((beside_s + search.seconds * extent) / 3600)
        gpu_hours.append(search.gpu_seconds * extent / 3600)
        most_open = max(most_open, search.most_open)
    return HoursForecast(Range.of(hours), Range.of(gpu_hours), most_open)


def _script(
    rng: np.random.Generator, config: RunConfig, times: TrialTimes, speed: float, *, is_recommended: bool
) -> Any:
    from tune_app.distributed.simulated import Script

    scale, epochs = config.step_scale, config.train.epochs
    curve = drawn_curve(rng, scale, epochs, config.train.patience)
    factor = speed * float(np.exp(rng.normal(scale=times.spread)))
    if scale.is_fold:
        seconds = [times.start_s * (fold > 0) + count * times.epoch_s for fold, count in enumerate(curve.epochs)]
    else:
        seconds = [_part_s(times, step, scale.per_epoch) for step in range(1, len(curve.values) + 1)]
    return Script(curve.values, [one * factor for one in seconds], times.start_s * factor, times.gpus, is_recommended)


def _part_s(times: TrialTimes, step: int, per_epoch: int) -> float:
    """Return the seconds from one report to the next."""
    evaluation = times.evaluation_s if step % per_epoch == 0 else times.rung_evaluation_s
    return times.train_s / per_epoch + evaluation + times.save_s
