"""Live table of a running search: a summary on top, then the trials that fit the terminal."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Self

from optuna.trial import FrozenTrial
from rich.console import Console as RichConsole
from rich.console import ConsoleDimensions, ConsoleOptions, RenderResult
from rich.live import Live as LiveDisplay
from rich.table import Table
from rich.text import Text

from tune_app.durations import duration_text
from tune_app.objectives import Objective, front, measured, values_of
from tune_app.outcomes import Outcome
from tune_app.progress.live import Live
from tune_app.progress.plain import Quiet, retry_line
from tune_app.step_scale import StepScale
from tune_app.study.lines import closing_line, summary_lines, what_of
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.reporting import RUNNING, leaderboard, outcome_of, state_of, study_status, varying
from tune_app.study.store import StudyStore
from tune_app.study.times import working_s
from tune_app.voice import Voice

_REFRESH_S = 1.0
_BEST = 5
# Rows below which titles are left out.
_ROOM_FOR_TITLES = 8

_STYLES = {
    Outcome.COMPLETE: "green",
    Outcome.STOPPED: "yellow",
    Outcome.OOM: "magenta",
    Outcome.FAILED: "bold red",
}


class LiveTable(Quiet):
    """Table that refreshes every second, and is redrawn when the terminal's size has changed."""

    def __init__(self, voice: Voice, store: StudyStore, course: Course) -> None:
        self._voice = voice
        self._store = store
        self._course = course
        self._live: Sequence[Live] = ()
        self._last_drawn = 0.0
        self._size: ConsoleDimensions | None = None
        self._display = LiveDisplay(console=voice.console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live = ()
        self._draw(is_running=False)
        self._display.__exit__(None, None, None)

    def message(self, text: str) -> None:
        self._voice.say(text)

    def retried(self, live: Live, why: str) -> None:
        self.message(f"trial {live.number}: {retry_line(live, why)}")

    def closed(self, trial: FrozenTrial) -> None:
        if outcome_of(trial) in (Outcome.OOM, Outcome.FAILED):
            record = self._store.record
            self.message(f"trial {trial.number}: {closing_line(trial, record.objectives, record.step_scale)}")

    def step(self, live: Sequence[Live]) -> None:
        self._live = live
        if time.monotonic() - self._last_drawn >= _REFRESH_S:
            self._draw(is_running=True)

    def _draw(self, *, is_running: bool) -> None:
        self._last_drawn = time.monotonic()
        self._voice.heard()
        if self._size is not None and self._voice.console.width < self._size.width:
            # A narrowed terminal folds the old table into an unknown number of lines.
            self._voice.console.clear()
        self._size = self._voice.console.size
        view = search_view(self._store, self._live, self._course, most=self._size.height, is_running=is_running)
        self._display.update(view, refresh=True)


@dataclass(frozen=True)
class Row:
    """Line of a trial: its cells, and the style of its state."""

    cells: tuple[str, ...]
    style: str


@dataclass(frozen=True)
class SearchView:
    """Content of the live table, cut to the terminal's height when it is drawn.

    Attributes:
        running: trials at work, which come first.
        newest: newest other launched trials, the newest first. Trials shown among the best are not repeated.
        best: best complete trials, the best first, at most ``_BEST``.
    """

    summary: Sequence[str]
    columns: Sequence[str]
    running: Sequence[Row]
    newest: Sequence[Row]
    best: Sequence[Row]

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        # Leave a line for the cursor.
        room = console.size.height - 1
        lines = [line for text in self.summary for line in Text(text).wrap(console, options.max_width)][:room]
        yield from lines
        room -= len(lines) + 1
        if room > 0:
            yield self._table(room)

    def _table(self, room: int) -> Table:
        table = Table(expand=False, pad_edge=False, box=None, header_style="bold")
        for column in self.columns:
            is_last = column == self.columns[-1]
            table.add_column(column, no_wrap=not is_last, overflow="ellipsis")
        for row in self.fitting(room):
            if isinstance(row, str):
                table.add_row(Text(row, style="dim"))
            else:
                *cells, what = row.cells
                table.add_row(*cells, Text(what, no_wrap=True, overflow="ellipsis"), style=row.style)
        return table

    def fitting(self, room: int) -> Iterator[Row | str]:
        """Yield at most ``room`` rows and titles: trials at work, then the newest and the best of the others."""
        at_work = self.running[:room]
        if len(self.running) > room:
            yield from at_work[:-1]
            yield f"and {len(self.running) - room + 1} more running"
            return
        yield from at_work
        room -= len(at_work)
        titles = 2 if room >= _ROOM_FOR_TITLES else 0
        room -= titles
        best = self.best[: room // 2]
        newest = [row for row in self.newest if row not in best][: room - len(best)]
        for title, rows in (("newest", newest), ("best", best)):
            if rows:
                yield from [title] if titles else []
                yield from rows


def search_view(
    store: StudyStore, live: Sequence[Live], course: Course, *, most: int, is_running: bool = True
) -> SearchView:
    """Return the current content of a study's live table.

    Args:
        most: number of lines that the terminal has at most.
    """
    trials, record = store.trials(), store.record
    launched = [trial for trial in trials if outcome_of(trial) is not Outcome.INFEASIBLE]
    ranked = leaderboard(launched, record.objectives)
    marked = front(ranked, record.objectives) if len(record.objectives) > 1 else ranked[:1]
    build = _Rows(
        {trial.number: trial for trial in live},
        record.objectives,
        record.step_scale,
        varying(launched),
        {trial.number for trial in marked},
        is_running,
    )
    running = [trial for trial in launched if state_of(trial, is_running=is_running) == RUNNING]
    numbers = {trial.number for trial in running}
    newest = (trial for trial in reversed(launched) if trial.number not in numbers)
    return SearchView(
        summary_lines(study_status(store, is_running=is_running), remaining_s(trials, store.target, course)),
        (
            "trial",
            "outcome",
            record.step_scale.noun,
            *(objective.name for objective in record.objectives),
            "time",
            "configuration",
        ),
        [build.row(trial) for trial in running],
        # The table leaves out a newest trial that is also among the best, so fetch as many more.
        [build.row(trial) for trial in islice(newest, most + _BEST)],
        [build.row(trial) for trial in ranked[:_BEST]],
    )


@dataclass(frozen=True)
class _Rows:
    """Builder of rows.

    Attributes:
        live: running trials, with reports that the study lacks.
        names: parameters to show.
        best: numbers of the trials to mark as best.
    """

    live: Mapping[int, Live]
    objectives: Sequence[Objective]
    step_scale: StepScale
    names: set[str]
    best: set[int]
    is_running: bool

    def row(self, trial: FrozenTrial) -> Row:
        live = self.live.get(trial.number)
        state = state_of(trial, is_running=self.is_running)
        if state == RUNNING and live is None:
            state = "starting"
        values = _values_so_far(trial, live, self.objectives, self.step_scale)
        outcome = outcome_of(trial)
        return Row(
            (
                f"{trial.number}{' ★' if trial.number in self.best else ''}",
                state,
                _steps_text(trial.intermediate_values, live, self.step_scale),
                *(
                    "" if value is None else objective.shown(value)
                    for objective, value in zip_longest(self.objectives, values)
                ),
                duration_text(working_s(trial, time.time() if self.is_running else None)),
                what_of(trial, self.names),
            ),
            _STYLES.get(outcome, "") if outcome else "cyan",
        )


def _values_so_far(
    trial: FrozenTrial, live: Live | None, objectives: Sequence[Objective], step_scale: StepScale
) -> tuple[float | None, ...]:
    """Return a trial's values so far: all objectives if it is complete or in progress, else the first one alone."""
    first = step_scale.last_value(trial.intermediate_values)
    if first is None or trial.state.is_finished():
        return values_of(trial) or (first,)
    return (first,) if live is None else measured(objectives, first, live.best_metrics, live.facts)


def _steps_text(values: Mapping[int, float], live: Live | None, step_scale: StepScale) -> str:
    """Return the finished steps, and the epochs of the current fold: ``2``, ``0.75``, ``2 + 3 epochs``."""
    done = step_scale.shown(max(values)) if values else ""
    if live is None or live.fold_epoch is None:
        return done
    return f"{done or 0} + {live.fold_epoch} epochs"
