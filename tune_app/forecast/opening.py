"""Short form of a plan, for the opening lines of a search, and the seconds of trials, for its budget."""

from collections.abc import Callable
from contextlib import ExitStack

from search_spaces.space import Params
from trainables.scratch import scratch_folder
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.forecast.draws import accepted_draws, recommended_draws
from tune_app.forecast.lines import range_text
from tune_app.forecast.machine import planned_machine
from tune_app.forecast.time_forecast import TimeForecast, known_time
from tune_app.forecast.trial_times import TrialTimer
from tune_app.screening.packing import Packing
from tune_app.screening.screen import Screen
from tune_app.study.budget import TrialSeconds

# A search must not wait for its plan.
_DRAWS, _MOST_S = 30, 1.5
_A_DAY_H = 24.0


def short_forecast(config: RunConfig, screen: Screen) -> TimeForecast | None:
    """Return the time of a new search, from the machine's record alone; None if that does not know all its models."""
    machine = planned_machine(config, None)
    with scratch_folder("plan") as scratch:
        timer = TrialTimer(config, screen.packing, machine.device, scratch)
        try:
            draws = accepted_draws(config, screen.rules, _DRAWS)
        except UserError:
            return None  # Hardly any configuration can run, which the search finds out by itself.
        recommended = recommended_draws(config, screen.rules)
        if timer.unknown([*draws, *recommended]):
            return None
        return known_time(config, timer, draws, recommended, machine.cards, most_s=_MOST_S)


def hours_line(time: TimeForecast | None) -> str:
    """Return the line on the hours of a search that begins."""
    return "hours: not known yet, `headroom plan` times them" if time is None else f"hours: {range_text(time.hours)}"


def hours_question(config: RunConfig, time: TimeForecast | None) -> str | None:
    """Return the question whether to begin a long search; None if it is not longer than a person asked for."""
    most = config.search.max_hours or _A_DAY_H
    if time is None or time.hours.expected <= most:
        return None
    limit = "a day" if config.search.max_hours is None else f"search.max_hours {most:g}"
    return f"The plan expects {range_text(time.hours)}, more than {limit}. Begin the search?"


def trial_seconds(config: RunConfig, stack: ExitStack) -> Callable[[Packing], TrialSeconds]:
    """Return a function from the packing of a search on this machine to the seconds of its trials.

    Args:
        stack: closed at the end of the search, with the files that the timing needs.
    """

    def of(packing: Packing) -> TrialSeconds:
        scratch = stack.enter_context(scratch_folder("plan"))
        timer = TrialTimer(config, packing, planned_machine(config, None).device, scratch)

        def seconds(params: Params) -> float | None:
            # Trials that ended since have recorded their own time.
            timer.read_again()
            times = timer.times(params)
            return None if times is None else times.whole_s(config.train.epochs, config.data.folds)

        return seconds

    return of
