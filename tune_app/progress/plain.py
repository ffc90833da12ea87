"""Display of a running search: a live table in a terminal, plain lines elsewhere, nothing with ``--quiet``."""

import time
from collections.abc import Sequence
from typing import Protocol, Self

from optuna.trial import FrozenTrial

from tune_app.durations import duration_text
from tune_app.objectives import measured, shown_values
from tune_app.outcomes import MOST_RETRIES, Outcome
from tune_app.progress.live import Live
from tune_app.study.lines import closing_line, summary_lines
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.reporting import is_recommended, outcome_of, params_text, study_status
from tune_app.study.store import StudyStore
from tune_app.voice import Voice

_REFRESH_S = 1.0
_SHOWN_REJECTIONS = 3
_SHOWN_AT_WORK = 4
# Silence in seconds after which reports within an epoch are printed.
_SILENCE_S = 10.0


class SearchDisplay(Protocol):
    """Listener to the events of a search. All calls come from the driver's main thread."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def message(self, text: str) -> None: ...
    def reported(self, live: Live, value: float) -> None: ...
    def retried(self, live: Live, why: str) -> None: ...
    def closed(self, trial: FrozenTrial) -> None: ...
    def step(self, live: Sequence[Live]) -> None: ...


class Quiet:
    """Display that prints nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...
    def message(self, text: str) -> None: ...
    def reported(self, live: Live, value: float) -> None: ...
    def retried(self, live: Live, why: str) -> None: ...
    def closed(self, trial: FrozenTrial) -> None: ...
    def step(self, live: Sequence[Live]) -> None: ...


class PlainLines(Quiet):
    """Display with one line per event, for logs and pipes."""

    def __init__(self, voice: Voice, store: StudyStore, course: Course) -> None:
        self._voice = voice
        self._store = store
        self._course = course
        self._started: set[int] = set()
        self._trials_seen = len(store.trials())
        self._last_look = 0.0
        self._live: Sequence[Live] = ()
        self._is_begun = False
        self._counts_are_due = False

    def message(self, text: str) -> None:
        self._voice.say(text)

    def reported(self, live: Live, value: float) -> None:
        self._announce(live)
        if live.step % live.step_scale.per_epoch and self._voice.silent_s < _SILENCE_S:
            return
        objectives = self._store.record.objectives
        best = live.representative_step
        if live.step_scale.is_fold:
            more = f" (mean of {live.step})"
        else:
            more = f" (best {live.values[best]:.4f} in {live.step_scale.label(best)})" if best else ""
        shown = shown_values(objectives, measured(objectives, value, live.metrics, live.facts))
        self._say_of(live.number, f"{live.step_scale.label(live.step)}: {shown}{more}")

    def retried(self, live: Live, why: str) -> None:
        self._say_of(live.number, retry_line(live, why))

    def closed(self, trial: FrozenTrial) -> None:
        self._say_of(trial.number, self._closing_line(trial))
        self._counts_are_due = True

    def step(self, live: Sequence[Live]) -> None:
        self._live = live
        if not self._is_begun:
            self._is_begun = True
            self._voice.doing(self._at_work)
        if self._counts_are_due:
            self._counts_are_due = False
            status = study_status(self._store, is_running=True)
            left_s = remaining_s(self._store.trials(), self._store.target, self._course)
            self.message("; ".join(summary_lines(status, left_s)))
        # Ray's loop runs many times a second, and there may be thousands of trials to search.
        if time.monotonic() - self._last_look < _REFRESH_S:
            return
        self._last_look = time.monotonic()
        self._show_rejected()
        for trial in live:
            self._announce(trial)

    def _say_of(self, number: int, text: str) -> None:
        self.message(f"trial {number:>4}  {text}")

    def _closing_line(self, trial: FrozenTrial) -> str:
        return closing_line(trial, self._store.record.objectives, self._store.record.step_scale)

    def _announce(self, live: Live) -> None:
        if live.number not in self._started:
            self._started.add(live.number)
            begins = f"resumes after {live.step_scale.label(live.step)}" if live.values else "starts"
            mark = " as recommended" if is_recommended(self._store.trial(live.number)) else ""
            self._say_of(live.number, f"{begins}{mark}: {params_text(live.params)}")

    def _show_rejected(self) -> None:
        trials = self._store.trials()
        rejected = [trial for trial in trials[self._trials_seen :] if outcome_of(trial) is Outcome.INFEASIBLE]
        self._trials_seen = len(trials)
        for trial in rejected[:_SHOWN_REJECTIONS]:
            self._say_of(trial.number, self._closing_line(trial))
        if len(rejected) > _SHOWN_REJECTIONS:
            self.message(f"            and {len(rejected) - _SHOWN_REJECTIONS} more rejected")

    def _at_work(self) -> str:
        """Return the activity of the trials at work, with durations; the voice calls this from its own thread."""
        at_work = [live for live in self._live if not live.waits]
        if not at_work:
            return "waiting for a trial to start"
        shown = [_activity(live) for live in at_work[:_SHOWN_AT_WORK]]
        if len(at_work) > _SHOWN_AT_WORK:
            shown.append(f"and {len(at_work) - _SHOWN_AT_WORK} more")
        return f"running: {', '.join(shown)}"


def _activity(live: Live) -> str:
    """Return ``trial 3 (after epoch 2 for 42 s)``."""
    place = f"after {live.step_scale.label(live.step)}" if live.values else "before its first report"
    return f"trial {live.number} ({place} for {duration_text(time.monotonic() - live.heard_at)})"


def retry_line(live: Live, why: str) -> str:
    """Return the line on a trial that is run again through no fault of its own, with the reason."""
    return f"is retried ({live.retries} of at most {MOST_RETRIES}): {why}"
