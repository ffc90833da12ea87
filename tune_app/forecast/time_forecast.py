"""Time of a search: seconds per trial, hours of the study, and the disk that its checkpoints take."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.space import Params
from trainables.machine import MachineFiles
from trainables.seeds import sub_seed
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.forecast.hours import HoursForecast, Range, forecast_hours
from tune_app.forecast.overheads import recorded_overheads
from tune_app.forecast.timed_models import time_models
from tune_app.forecast.trial_times import TrialTimer, TrialTimes

# Two checkpoints of an open trial: its best epoch's, and the one to resume from.
_OF_AN_OPEN_TRIAL = 2
_MOST_S = 4.0


@dataclass(frozen=True)
class TimeForecast:
    """Time and disk of a search.

    Attributes:
        trial_s: median seconds of a trial that nothing ends early, by model.
        basis: origin of the seconds: ``earlier trials``, ``timed steps``, or both.
        scaled: models that were neither recorded nor timed; their seconds are another model's, in proportion to size.
        errors: errors of models that could not be trained, by name.
        disk_gib: most that the checkpoints take at a time.
    """

    trial_s: dict[str, float]
    hours: Range
    gpu_hours: Range
    basis: str
    scaled: tuple[str, ...]
    errors: dict[str, str]
    disk_gib: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "trial_s": self.trial_s,
            "hours": {**self.hours.as_dict(), "basis": self.basis},
            "gpu_hours": self.gpu_hours.as_dict(),
            "disk_gib": self.disk_gib,
        }


def forecast_time(
    config: RunConfig,
    timer: TrialTimer,
    draws: Sequence[Params],
    recommended: Sequence[Params],
    at_once: int,
    cards: int,
    doing: Callable[[str], None],
) -> TimeForecast:
    """Forecast the time of a search; time the models that the machine's record does not know.

    Args:
        draws: random configurations, at least one.
        recommended: recommended configurations that begin the search.
        at_once: trials that run side by side.
        cards: number of cards.

    Raises:
        UserError: no model could be timed.
    """
    unknown = timer.unknown([*draws, *recommended])
    every = len({timer.models(params) for params in (*draws, *recommended)})
    errors: dict[str, str] = {}
    if unknown:
        doing(f"timing a few steps of {', '.join(name for models in unknown for name in models)} (a minute at most)")
        errors = time_models(config, unknown, at_once=at_once, gpus=timer.gpus)
        timer.read_again()
    doing("simulating the search")
    forecast = known_time(config, timer, draws, recommended, cards)
    if forecast is None:
        why = "; ".join(f"{name}: {error}" for name, error in errors.items()) or "a step takes too long on this machine"
        raise UserError(f"model.name: no step of {', '.join(map('+'.join, unknown))} could be timed ({why})")
    timed = "timed steps" if len(unknown) == every else "earlier trials and timed steps"
    scaled = tuple("+".join(models) for models in timer.unknown([*draws, *recommended]))
    return TimeForecast(
        **{**vars(forecast), "basis": timed if unknown else "earlier trials", "scaled": scaled, "errors": errors}
    )


def known_time(
    config: RunConfig,
    timer: TrialTimer,
    draws: Sequence[Params],
    recommended: Sequence[Params],
    cards: int,
    most_s: float = _MOST_S,
) -> TimeForecast | None:
    """Forecast the time of a search from the machine's record alone; None if it holds no model.

    Args:
        most_s: seconds after which no further search is simulated.
    """
    times = _times(timer, draws)
    first = _times(timer, recommended)
    if times is None or first is None:
        return None
    trials = min(config.search.trials, config.active_space().size or config.search.trials)
    found = forecast_hours(
        config,
        times,
        first,
        recorded_overheads(MachineFiles().searches),
        trials=trials,
        cards=cards,
        seed=sub_seed(config.search.seed, "hours"),
        most_s=most_s,
    )
    return TimeForecast(
        _by_model(config, times),
        found.hours,
        found.gpu_hours,
        "earlier trials",
        (),
        {},
        _disk_gib(config, times, found),
    )


def _times(timer: TrialTimer, draws: Sequence[Params]) -> list[TrialTimes] | None:
    found = []
    for params in draws:
        times = timer.times(params)
        if times is None:
            return None
        found.append(times)
    return found


def _by_model(config: RunConfig, times: Sequence[TrialTimes]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for one in times:
        seconds.setdefault("+".join(one.models), []).append(one.whole_s(config.train.epochs, config.data.folds))
    return {name: statistics.median(of_model) for name, of_model in sorted(seconds.items())}


def _disk_gib(config: RunConfig, times: Sequence[TrialTimes], found: HoursForecast) -> float:
    """Return the size of the kept checkpoints and of the open trials', if all are of the largest model."""
    keep = config.checkpoint.keep
    if keep == "none":
        return 0.0
    most = min(keep, config.search.trials) + _OF_AN_OPEN_TRIAL * found.most_open
    return most * max(one.checkpoint_gib for one in times)
