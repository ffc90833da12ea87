"""Recorder of every trial's outcome in the study, from Ray's callbacks.

Ray's searcher interface hides the report at which a scheduler stops a trial, and the content of errors. Ray's callbacks
see everything.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cloudpickle
import ray.exceptions
from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.experiment import Trial

from tune_app.distributed.decision import Decision, Judge, enter, is_final, named_death
from tune_app.distributed.messages import Launch, SentReport, number_of
from tune_app.distributed.searcher import HeadroomSearch
from tune_app.outcomes import (
    FACTS_ATTRIBUTE,
    PASSED_OVER_ATTRIBUTE,
    TRIAL_ATTRIBUTES,
    WAITS_ATTRIBUTE,
    Outcome,
    TrialError,
    metrics_attribute,
)
from tune_app.progress.live import Live
from tune_app.step_scale import StepScale
from tune_app.study.checkpoints import CheckpointKeeper
from tune_app.study.remote import PermanentStorage
from tune_app.study.store import StudyStore
from tune_app.study.times import BESIDE_ATTRIBUTE, CLOCK_ATTRIBUTE, QUEUED_ATTRIBUTE, Doing, clock_of, taken_up

_DOING = {Trial.PENDING: Doing.WAITING, Trial.PAUSED: Doing.WAITING, Trial.RUNNING: Doing.WORKING}


class StudyRecorder(tune.Callback):
    """Ray callback that records every trial in the study.

    Args:
        permanent_storage: permanent storage of the study. Checkpoints that it may still name are not deleted.
        step_scale: scale of the trials' reports.
        scheduler: name of the scheduler, for the reason of a stopped trial.
        timeout_s: seconds without a report after which a worker ends itself; None if it never does.
        on_report: called with a live trial and its value after each of its steps.
        on_retry: called with a live trial that is run again, and the reason.
        on_note: called with a live trial and a note on it for a person.
        on_halt: called with a reason for which no trial can run, so that the search ends.
        on_close: called with every trial once its outcome is recorded.
        on_step: called at every turn of Ray's loop with the trials in progress.
        waiting: returns the numbers of the trials that the scheduler paused and that hold no slot.
    """

    def __init__(
        self,
        store: StudyStore,
        searcher: HeadroomSearch,
        checkpoints: CheckpointKeeper,
        *,
        permanent_storage: PermanentStorage,
        step_scale: StepScale,
        scheduler: str,
        timeout_s: float | None,
        on_report: Callable[[Live, float], None],
        on_retry: Callable[[Live, str], None],
        on_note: Callable[[Live, str], None],
        on_halt: Callable[[str], None],
        on_close: Callable[[FrozenTrial], None],
        on_step: Callable[[Sequence[Live]], None],
        waiting: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        self._store = store
        self._searcher = searcher
        self._checkpoints = checkpoints
        self._permanent_storage = permanent_storage
        self._step_scale = step_scale
        self._judge = Judge(step_scale, store.record.objectives, scheduler)
        self._timeout_s = timeout_s
        self._on_report = on_report
        self._on_retry = on_retry
        self._on_note = on_note
        self._on_halt = on_halt
        self._on_close = on_close
        self._on_step = on_step
        self._waiting = waiting
        self._live: dict[str, Live] = {}
        self._trials: dict[str, Trial] = {}
        self._take_up()

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks into its own experiment state, which nothing reads: the study is the record.
        return {}

    def _take_up(self) -> None:
        """Count the time since the previous search as a pause of the trials that it left open."""
        now = time.time()
        for trial in self._store.trials():
            if not trial.state.is_finished():
                self._store.set_attributes(trial.number, {CLOCK_ATTRIBUTE: taken_up(trial, now).as_dict()})

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        waiting = self._waiting()
        self._searcher.paused = len(waiting)
        for name, live in self._live.items():
            doing = _DOING.get(self._trials[name].status, live.clock.doing)
            changed: dict[str, Any] = {}
            if live.waits != (live.number in waiting):
                live.waits = not live.waits
                changed[WAITS_ATTRIBUTE] = live.step if live.waits else None
            if live.clock.doing is not doing:
                live.clock.turn_to(doing, time.time())
                changed[CLOCK_ATTRIBUTE] = live.clock.as_dict()
            if changed:
                self._store.set_attributes(live.number, changed)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._keep()
        self._on_step(list(self._live.values()))

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live = self._live_of(trial)
        live.heard_at = time.monotonic()
        live.clock.turn_to(Doing.WORKING, time.time())
        seconds = live.clock.seconds
        queued = {} if seconds[Doing.WORKING] else {QUEUED_ATTRIBUTE: seconds[Doing.WAITING]}
        self._store.set_attributes(live.number, {CLOCK_ATTRIBUTE: live.clock.as_dict(), **queued})

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        live, report = self._live_of(trial), SentReport.from_dict(result)
        live.heard_at = time.monotonic()
        note = report.facts.get(PASSED_OVER_ATTRIBUTE)
        if note and note != live.facts.get(PASSED_OVER_ATTRIBUTE):
            self._on_note(live, str(note))
        is_first = report.step not in live.values
        step = enter(report, live)
        if is_final(report):
            trial.max_failures = 0
            if report.ended == "halted":
                self._on_halt(str(report.reason))
        if step is None:
            return
        if is_first and math.isfinite(report.value):
            self._store.report(live.number, step, report.value)
        if is_first and len(live.values) == 1:
            self._record_beside(live)
        self._on_report(live, report.value)

    def _record_beside(self, live: Live) -> None:
        """Record what a trial's first worker did beside the trial's own work; nothing if the trial measures no work."""
        parts = [live.facts.get(name) for name in ("load_s", "fit_s", "train_s", "eval_s", "save_s")]
        known = [float(part) for part in parts if part is not None]
        if len(known) == len(parts):
            beside_s = live.clock.at(time.time())[Doing.WORKING] - sum(known)
            self._store.set_attributes(live.number, {BESIDE_ATTRIBUTE: max(0.0, beside_s)})

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        live = self._live_of(trial)
        # A trial in folds has no single best model, only a state to resume from.
        is_best = None if self._step_scale.is_fold else live.representative_step == live.step
        attributes: dict[str, Any] = self._checkpoints.add(live.number, checkpoint, is_best=is_best)
        if live.fold_epoch is None:
            # One attribute per step preserves the metrics that a resumed trial measured before it was interrupted.
            attributes = {**attributes, metrics_attribute(self._step_scale.name, live.step): live.metrics}
            if live.representative_step == live.step:
                attributes |= live.breakdowns
        live.clock.turn_to(live.clock.doing, time.time())
        known = {FACTS_ATTRIBUTE: live.facts, CLOCK_ATTRIBUTE: live.clock.as_dict()}
        self._store.set_attributes(live.number, {**attributes, **known})
        self._keep(at_once=True)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live = self._live_of(trial)
        live.retries += 1
        why = self._error_of(trial, live, losses=live.retries).line
        self._store.set_attributes(live.number, {"retries": live.retries, f"retry_{live.retries}": why})
        self._on_retry(live, why)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._carry_out(self._judge.without_error(self._live_of(trial)), trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live = self._live_of(trial)
        lost = lambda: self._error_of(trial, live, losses=live.retries + 1)  # noqa: E731
        self._carry_out(self._judge.with_error(live, lost), trial)

    def _error_of(self, trial: Trial, live: Live, *, losses: int) -> TrialError:
        silent_s = time.monotonic() - live.heard_at
        return named_death(_error_of(trial, losses), silent_s=silent_s, timeout_s=self._timeout_s)

    def _live_of(self, trial: Trial) -> Live:
        if trial.trial_id not in self._live:
            number = number_of(trial)
            stored = self._store.trial(number)
            values = {int(step): value for step, value in stored.intermediate_values.items()}
            self._trials[trial.trial_id] = trial
            best = metrics_attribute(self._step_scale.name, self._step_scale.representative_step(values))
            self._live[trial.trial_id] = Live(
                number,
                Launch.from_dict(trial.config).params,
                self._step_scale,
                clock_of(stored),
                values=values,
                best_metrics=dict(stored.user_attrs.get(best) or {}),
                facts=dict(stored.user_attrs.get(FACTS_ATTRIBUTE) or {}),
                retries=int(stored.user_attrs.get("retries", 0)),
                # The next turn of the loop updates this if the trial goes on by then.
                waits=stored.user_attrs.get(WAITS_ATTRIBUTE) is not None,
            )
        return self._live[trial.trial_id]

    def _forget(self, trial: Trial) -> Live:
        del self._trials[trial.trial_id]
        return self._live.pop(trial.trial_id)

    def _carry_out(self, decision: Decision, trial: Trial) -> None:
        live = self._forget(trial)
        if decision.outcome is not None:
            self._close(decision.outcome, decision, live, Launch.from_dict(trial.config))
        if decision.halt is not None:
            self._on_halt(decision.halt)

    def _close(self, outcome: Outcome, decision: Decision, live: Live, launch: Launch) -> None:
        self._store.close_trial(
            live.number,
            outcome,
            value=decision.values,
            reason=decision.reason,
            attributes=self._attributes(decision, live, launch),
            constraints=decision.constraints,
        )
        closed = self._store.trial(live.number)
        self._checkpoints.settle(closed)
        self._keep(at_once=True)
        self._on_close(closed)

    def _attributes(self, decision: Decision, live: Live, launch: Launch) -> dict[str, Any]:
        attributes = {
            # Every trial has all attributes, even if it ended before its first report.
            **dict.fromkeys(TRIAL_ATTRIBUTES),
            "gpu_fraction": launch.gpus,
            **{doing.value: seconds for doing, seconds in live.clock.at(time.time()).items()},
            **live.facts,
            **({} if decision.error is None else asdict(decision.error)),
        }
        if live.values:
            # Every fold has its own best epoch, which is among its metrics.
            best_epoch = (
                None if self._step_scale.is_fold else live.representative_step // self._step_scale.per_epoch or None
            )
            # Over folds, the metric is the share of collapsed folds.
            collapsed = live.best_metrics.get("collapsed", 0.0) >= 0.5
            attributes |= {"best_epoch": best_epoch, "metrics": live.best_metrics, "collapsed": collapsed}
        return attributes

    def _keep(self, *, at_once: bool = False) -> None:
        if self._permanent_storage.save(at_once=at_once):
            self._checkpoints.sweep()


def _error_of(trial: Trial, losses: int) -> TrialError:
    """Return Ray's account of an error that the trial could not report: its worker died, or was unusable.

    Args:
        losses: number of times that the trial has lost its worker so far.
    """
    # Trial.get_pickled_error() reads from the storage, where the file may not have been copied yet.
    file = trial.pickled_error_file
    if not file or not Path(file).exists():
        return TrialError("WorkerLost", "its worker ended without an error message")
    error = cloudpickle.loads(Path(file).read_bytes())
    cause = getattr(error, "cause", None) or error
    message = str(cause)
    if isinstance(error, ray.exceptions.RayActorError):
        # The text before this phrase only names Ray's own objects.
        why = " ".join(message.split()).rpartition("The actor is dead because ")[2][:300]
        message = f"its worker was lost {'once' if losses == 1 else f'{losses} times; the last time'}: {why}"
    return TrialError(type(cause).__name__, message, str(error))
