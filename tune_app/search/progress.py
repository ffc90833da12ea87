"""Shows a running search: one live table in a terminal, plain lines elsewhere, nothing with ``--quiet``."""

import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Protocol, Self

from optuna.trial import FrozenTrial
from rich.console import Group
from rich.live import Live as LiveDisplay
from rich.table import Table

from tune_app.console import Console
from tune_app.objectives import Objective, front, measured, shown_values, values_of
from tune_app.outcomes import MOST_RETRIES, Outcome, carried_from
from tune_app.search.live import Live
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.reporting import (
    duration_text,
    is_recommended,
    leaderboard,
    outcome_of,
    params_text,
    reason_of,
)
from tune_app.study.store import StudyStore
from tune_app.study.times import working_s
from tune_app.unit import Unit

_REFRESH_S = 1.0
_SHOWN_REJECTIONS = 3
# Reports within an epoch are printed only after so long a silence.
_SILENCE_S = 10.0

_STYLES = {
    Outcome.COMPLETE: "green",
    Outcome.STOPPED: "yellow",
    Outcome.OOM: "magenta",
    Outcome.INFEASIBLE: "dim",
    Outcome.FAILED: "bold red",
}


class Progress(Protocol):
    """Told of what happens in a search. Calls come from the driver's main thread."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def message(self, text: str) -> None: ...
    def reported(self, live: Live, value: float) -> None: ...
    def retried(self, live: Live, why: str) -> None: ...
    def closed(self, trial: FrozenTrial) -> None: ...
    def step(self, live: Sequence[Live]) -> None: ...


class Quiet:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...
    def message(self, text: str) -> None: ...
    def reported(self, live: Live, value: float) -> None: ...
    def retried(self, live: Live, why: str) -> None: ...
    def closed(self, trial: FrozenTrial) -> None: ...
    def step(self, live: Sequence[Live]) -> None: ...


class PlainLines(Quiet):
    """One line per event, for logs and pipes."""

    def __init__(self, console: Console, store: StudyStore, course: Course) -> None:
        self._console = console
        self._store = store
        self._course = course
        self._started: set[int] = set()
        self._trials_seen = len(store.trials())
        self._last_look = 0.0
        self._last_line = 0.0
        self._waiting = 0

    def message(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.say(text)

    def reported(self, live: Live, value: float) -> None:
        self._announce(live)
        if live.step % live.unit.per_epoch and time.monotonic() - self._last_line < _SILENCE_S:
            return
        objectives = self._store.record.objectives
        best = live.telling_step
        if live.unit.is_fold:
            more = f" (mean of {live.step})"
        else:
            more = f" (best {live.values[best]:.4f} in {live.unit.label(best)})" if best else ""
        told = shown_values(objectives, measured(objectives, value, live.metrics, live.facts))
        self.message(f"trial {live.number:>4}  {live.unit.label(live.step)}: {told}{more}")

    def retried(self, live: Live, why: str) -> None:
        self.message(f"trial {live.number:>4}  {retry_line(live, why)}")

    def closed(self, trial: FrozenTrial) -> None:
        counts = counts_line(self._store, self._course, self._waiting)
        self.message(f"trial {trial.number:>4}  {closing_line(trial, self._store.record.objectives)}  [{counts}]")

    def step(self, live: Sequence[Live]) -> None:
        self._waiting = sum(trial.waits for trial in live)
        # Ray's loop turns many times a second, and there may be thousands of trials to look through.
        if time.monotonic() - self._last_look < _REFRESH_S:
            return
        self._last_look = time.monotonic()
        self._show_rejected()
        for trial in live:
            self._announce(trial)

    def _announce(self, live: Live) -> None:
        if live.number not in self._started:
            self._started.add(live.number)
            begins = f"goes on after {live.unit.label(live.step)}" if live.values else "starts"
            mark = " as recommended" if is_recommended(self._store.trial(live.number)) else ""
            self.message(f"trial {live.number:>4}  {begins}{mark}: {params_text(live.params)}")

    def _show_rejected(self) -> None:
        trials = self._store.trials()
        rejected = [trial for trial in trials[self._trials_seen :] if outcome_of(trial) is Outcome.INFEASIBLE]
        self._trials_seen = len(trials)
        for trial in rejected[:_SHOWN_REJECTIONS]:
            self.message(f"trial {trial.number:>4}  {closing_line(trial, self._store.record.objectives)}")
        if len(rejected) > _SHOWN_REJECTIONS:
            self.message(f"            and {len(rejected) - _SHOWN_REJECTIONS} more rejected")


class LiveTable(Quiet):
    """One table that renews itself: the trials in progress, the last that ended, counts, best and time left."""

    def __init__(self, console: Console, store: StudyStore, course: Course) -> None:
        self._store = store
        self._course = course
        self._live: Sequence[Live] = ()
        self._last_drawn = 0.0
        self._display = LiveDisplay(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live = ()
        self._draw()
        self._display.__exit__(None, None, None)

    def message(self, text: str) -> None:
        self._display.console.print(text)

    def retried(self, live: Live, why: str) -> None:
        self.message(f"trial {live.number}: {retry_line(live, why)}")

    def closed(self, trial: FrozenTrial) -> None:
        if outcome_of(trial) in (Outcome.OOM, Outcome.FAILED):
            self.message(f"trial {trial.number}: {closing_line(trial, self._store.record.objectives)}")

    def step(self, live: Sequence[Live]) -> None:
        self._live = live
        if time.monotonic() - self._last_drawn >= _REFRESH_S:
            self._draw()

    def _draw(self) -> None:
        self._last_drawn = time.monotonic()
        self._display.update(search_table(self._store, self._live, self._course), refresh=True)


def search_table(store: StudyStore, live: Sequence[Live], course: Course, rows: int = 12) -> Group:
    """The live table: the newest trials, those in progress included, under a line of counts."""
    trials = store.trials()
    progress = {trial.number: trial for trial in live}
    objectives, unit = store.record.objectives, store.record.unit
    ranked = leaderboard(trials, objectives)
    best = {trial.number for trial in (front(ranked, objectives) if len(objectives) > 1 else ranked[:1])}
    table = Table(expand=False, pad_edge=False, box=None, header_style="bold")
    names = [objective.name for objective in objectives]
    for column in ("trial", "outcome", unit.noun, *names, "configuration or reason"):
        table.add_column(column, no_wrap=column != "configuration or reason", overflow="ellipsis")
    for trial in trials[-rows:]:
        outcome = outcome_of(trial)
        values = trial.intermediate_values
        shown = _values_so_far(trial, progress.get(trial.number), objectives, unit)
        what = params_text(trial.params)
        if outcome in (Outcome.INFEASIBLE, Outcome.OOM, Outcome.FAILED):
            what = reason_of(trial)
        state = outcome.value if outcome else _state_of(progress.get(trial.number))
        if carried_from(trial):
            state += ", carried"
        if is_recommended(trial):
            state += ", recommended"
        table.add_row(
            f"{trial.number}{' ★' if trial.number in best else ''}",
            state,
            _steps_text(values, progress.get(trial.number), unit),
            *("" if value is None else own.shown(value) for own, value in zip_longest(objectives, shown)),
            what,
            style=_STYLES.get(outcome, "cyan") if outcome else "cyan",
        )
    return Group(table, counts_line(store, course, sum(trial.waits for trial in live)))


def _state_of(live: Live | None) -> str:
    if live is None:
        return "open"
    return "waiting" if live.waits else "running"


def _values_so_far(
    trial: FrozenTrial, live: Live | None, objectives: Sequence[Objective], unit: Unit
) -> tuple[float | None, ...]:
    """One per objective where the trial is complete or in progress; at least the first where it has reported."""
    first = unit.last_value(trial.intermediate_values)
    if first is None or trial.state.is_finished():
        return values_of(trial) or (first,)
    return (first,) if live is None else measured(objectives, first, live.best_metrics, live.facts)


def _steps_text(values: Mapping[int, float], live: Live | None, unit: Unit) -> str:
    """Return the steps finished, and epochs of the fold in hand: ``2``, ``0.75``, ``2 + 3 epochs``."""
    done = unit.shown(max(values)) if values else ""
    if live is None or live.fold_epoch is None:
        return done
    return f"{done or 0} + {live.fold_epoch} epochs"


def counts_line(store: StudyStore, course: Course, waiting: int = 0) -> str:
    """Return ``7 of 12 launched: 4 complete, 2 stopped, 1 running; 9 rejected; best 0.91 (trial 7); about 2 min left``.

    Of several objectives the best is by the first, and the front is counted.

    Args:
        waiting: open trials that the scheduler paused.
    """
    objectives = store.record.objectives
    trials = store.trials()
    outcomes = [outcome_of(trial) for trial in trials if carried_from(trial) is None]
    counts = {outcome: outcomes.count(outcome) for outcome in Outcome}
    launched = len(outcomes) - counts[Outcome.INFEASIBLE]
    parts = [
        f"{count} {outcome.value}" for outcome, count in counts.items() if count and outcome is not Outcome.INFEASIBLE
    ]
    if still_open := outcomes.count(None):
        running = still_open - waiting
        parts += [f"{count} {what}" for count, what in ((running, "running"), (waiting, "waiting")) if count]
    line = f"{launched} of {store.target} launched" + (f": {', '.join(parts)}" if parts else "")
    if counts[Outcome.INFEASIBLE]:
        line += f"; {counts[Outcome.INFEASIBLE]} rejected"
    if carried := len(trials) - len(outcomes):
        line += f"; {carried} carried over"
    if ranked := leaderboard(trials, objectives):
        line += f"; best {objectives[0].shown(values_of(ranked[0])[0])} (trial {ranked[0].number})"
        if len(objectives) > 1:
            line += f", {len(front(ranked, objectives))} on the front"
    left = remaining_s(trials, store.target, course)
    if left is not None and launched - still_open < store.target:
        line += f"; about {duration_text(left)} left"
    return line


def retry_line(live: Live, why: str) -> str:
    """That a trial is run again after no fault of its own, and why."""
    return f"is run again ({live.retries} of {MOST_RETRIES} times at most): {why}"


def closing_line(trial: FrozenTrial, objectives: Sequence[Objective]) -> str:
    """How a trial ended, in one line."""
    outcome = outcome_of(trial)
    assert outcome is not None, "only ended trials are announced"
    text = outcome.value
    if values := values_of(trial):
        text += f" {shown_values(objectives, values) if len(values) > 1 else objectives[0].shown(values[0])}"
    if trial.user_attrs.get("collapsed"):
        text += " (collapsed: one answer for every row)"
    if outcome is not Outcome.INFEASIBLE:
        text += f" in {duration_text(working_s(trial))}"
    return f"{text}: {reason_of(trial)}" if reason_of(trial) else text
