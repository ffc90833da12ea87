"""Line on what will end a study first: its last trial, its budget of hours, or too little gain to expect."""

from dataclasses import dataclass

from tune_app.config import RunConfig
from tune_app.durations import duration_text
from tune_app.sampling.expected_gain import LEAST_TRIALS, best_value, final_values, trials_until_pointless
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.reporting import was_launched
from tune_app.study.store import StudyStore


@dataclass(frozen=True)
class _Ending:
    """Ending of a study: seconds until then, None if unknown, and its text."""

    seconds: float | None
    text: str


def endings_line(store: StudyStore, config: RunConfig, *, running: bool) -> str | None:
    """Return the line on what will end a study first; None if only its last trial can, or nothing is left to launch."""
    launched = sum(map(was_launched, store.trials()))
    if launched >= store.target or (config.search.max_hours is None and config.search.stop == "none"):
        return None
    endings = [_last_trial(store, config, running=running), *_budget(store, config), *_gain(store, config, running)]
    known = sorted((one for one in endings if one.seconds is not None), key=lambda one: one.seconds or 0.0)
    unknown = [one for one in endings if one.seconds is None]
    first, *others = [*known, *unknown]
    later = "".join(f"; {one.text}{_when(one)}" for one in others)
    return f"ends first: {first.text}{_when(first)}{later}"


def _when(ending: _Ending) -> str:
    return "" if ending.seconds is None else f" in about {duration_text(max(1.0, ending.seconds))}"


def _last_trial(store: StudyStore, config: RunConfig, *, running: bool) -> _Ending:
    left = remaining_s(store.trials(), store.target, Course.of(config), is_running=running)
    return _Ending(left, f"all {store.target} trials (search.trials)")


def _budget(store: StudyStore, config: RunConfig) -> list[_Ending]:
    if config.search.max_hours is None:
        return []
    left_s = 3600 * config.search.max_hours - store.time.taken_s
    return [_Ending(max(0.0, left_s), f"the budget of {config.search.max_hours:g} h (search.max_hours)")]


def _gain(store: StudyStore, config: RunConfig, running: bool) -> list[_Ending]:
    """Return the ending by too little gain, if no further trial is better than the best."""
    noise, trials = store.standard_error, store.trials()
    if config.search.stop != "auto" or noise is None:
        return []
    values, best = final_values(trials), best_value(trials)
    what = f"too little gain to expect, if no trial is better (search.stop, standard error {noise:.4f})"
    if len(values) < LEAST_TRIALS or best is None:
        return [_Ending(None, f"{what}, not before {LEAST_TRIALS} trials have reported")]
    launched = sum(map(was_launched, trials))
    further = trials_until_pointless(values, best, noise, store.target - launched)
    left = remaining_s(trials, launched + further, Course.of(config), is_running=running)
    return [_Ending(left, what)]
