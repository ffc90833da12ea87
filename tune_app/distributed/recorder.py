"""Recorder of every trial's outcome in the study, from Ray's callbacks.

Ray's searcher interface hides the report at which a scheduler stops a trial, and the content of errors. Ray's callbacks
see everything.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import ray.exceptions
from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.experiment import Trial

from tune_app.distributed.messages import (
    BY_CRITERION,
    ENDED,
    ERROR,
    FACTS,
    FOLD_EPOCH,
    GPU,
    HALTED,
    METRIC,
    METRICS,
    PARAMS,
    REASON,
    TIME,
    number_of,
)
from tune_app.distributed.searcher import HeadroomSearch
from tune_app.objectives import measured
from tune_app.outcomes import (
    BY_CRITERION_ATTRIBUTE,
    FACTS_ATTRIBUTE,
    PASSED_OVER_ATTRIBUTE,
    TRIAL_ATTRIBUTES,
    WAITS_ATTRIBUTE,
    Outcome,
    metrics_attribute,
)
from tune_app.search.live import Live
from tune_app.study.checkpoints import CheckpointKeeper
from tune_app.study.remote import Kept
from tune_app.study.store import StudyStore
from tune_app.study.times import CLOCK_ATTRIBUTE, QUEUED_ATTRIBUTE, Doing, clock_of, taken_up
from tune_app.unit import Unit

_DOING = {Trial.PENDING: Doing.WAITING, Trial.PAUSED: Doing.WAITING, Trial.RUNNING: Doing.WORKING}

# Ray errors that mean the worker is gone.
_DEATHS = ("ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "WorkerLost")

# Error of a trial that cannot save checkpoints. After the trial's retries, it ends the search.
_OUT_OF_REACH = "CheckpointsOutOfReachError"


class StudyRecorder(tune.Callback):
    """Ray callback that records every trial in the study.

    Args:
        kept: permanent storage of the study. Checkpoints that it may still name are not deleted.
        unit: unit of the trials' reports.
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
        kept: Kept,
        unit: Unit,
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
        self._kept = kept
        self._unit = unit
        self._scheduler = scheduler
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
        live = self._live_of(trial)
        live.heard_at = time.monotonic()
        live.ended = result.get(ENDED)
        live.reason = result.get(REASON)
        facts = result.get(FACTS) or {}
        note = facts.get(PASSED_OVER_ATTRIBUTE)
        if note and note != live.facts.get(PASSED_OVER_ATTRIBUTE):
            self._on_note(live, note)
        live.facts.update(facts)
        live.error = result.get(ERROR)
        if live.ended == HALTED:
            trial.max_failures = 0
            self._on_halt(str(live.reason))
            return
        if live.ended in ("oom", "failed"):
            # The trial itself caused its end: running it again would end the same way.
            trial.max_failures = 0
            return
        live.fold_epoch = result.get(FOLD_EPOCH)
        if live.fold_epoch is not None:
            return
        step, value = int(result[TIME]), float(result[METRIC])
        if step not in live.values and math.isfinite(value):
            self._store.report(live.number, step, value)
        live.values[step] = value
        live.metrics = dict(result.get(METRICS) or {})
        if live.telling_step == step:
            live.best_metrics = live.metrics
            live.by_criterion = dict(result.get(BY_CRITERION) or {})
        self._on_report(live, value)

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any) -> None:
        live = self._live_of(trial)
        # A trial in folds has no single best model, only a state to resume from.
        is_best = None if self._unit.is_fold else live.telling_step == live.step
        attributes: dict[str, Any] = self._checkpoints.add(live.number, checkpoint, is_best=is_best)
        if live.fold_epoch is None:
            # One attribute per step preserves the metrics that a resumed trial measured before it was interrupted.
            attributes = {**attributes, metrics_attribute(self._unit.name, live.step): live.metrics}
            if live.by_criterion and live.telling_step == live.step:
                attributes[BY_CRITERION_ATTRIBUTE] = live.by_criterion
        live.clock.turn_to(live.clock.doing, time.time())
        known = {FACTS_ATTRIBUTE: live.facts, CLOCK_ATTRIBUTE: live.clock.as_dict()}
        self._store.set_attributes(live.number, {**attributes, **known})
        self._keep(at_once=True)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live = self._live_of(trial)
        live.retries += 1
        error = self._error_of(trial, live, losses=live.retries)
        why = f"{error['error_type']}: {error['error_message']}".splitlines()[0]
        self._store.set_attributes(live.number, {"retries": live.retries, f"retry_{live.retries}": why})
        self._on_retry(live, why)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live = self._live_of(trial)
        values = [value for value in live.values.values() if math.isfinite(value)]
        if live.ended == "complete" and len(values) == len(live.values):
            self._close_complete(trial, live)
        elif not live.values:
            self._close(trial, Outcome.FAILED, reason="the trial ended without a report")
        elif len(values) < len(live.values):
            step = next(step for step, value in live.values.items() if not math.isfinite(value))
            self._close_unmeasured(trial, live, f"the objective was {live.values[step]} in {self._unit.label(step)}")
        else:
            last = self._unit.shown(self._unit.count)
            reason = f"{self._scheduler} stopped it after {self._unit.label(live.step)} of {last}"
            self._close(trial, Outcome.STOPPED, reason=reason)

    def _close_complete(self, trial: Trial, live: Live) -> None:
        first = self._unit.last_value(live.values)
        assert first is not None, "there are finite values"
        objectives = self._store.record.objectives
        values = [value for value in measured(objectives, first, live.best_metrics, live.facts) if value is not None]
        if len(values) == len(objectives) and all(map(math.isfinite, values)):
            self._close(trial, Outcome.COMPLETE, value=values, reason=live.reason)
            return
        known = {**live.facts, **live.best_metrics}
        lacking = [f"{objective.name} was {known.get(objective.name)}" for objective in objectives[1:]]
        where = self._unit.label(live.telling_step)
        self._close_unmeasured(trial, live, f"not every objective was measured: {', '.join(lacking)} in {where}")

    def _close_unmeasured(self, trial: Trial, live: Live, message: str) -> None:
        live.error = {"error_type": "NonFiniteObjective", "error_message": message, "error_traceback": ""}
        self._close(trial, Outcome.FAILED, reason=message)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live = self._live_of(trial)
        if live.ended == HALTED:
            # The trial stays open in the study, so the next search resumes it.
            self._forget(trial)
            return
        if live.ended == "oom":
            self._close(trial, Outcome.OOM, reason=live.reason, constraints={"memory": _excess(live)})
            return
        if live.error is None:
            live.error = self._error_of(trial, live, losses=live.retries + 1)
        if live.error["error_type"] == _OUT_OF_REACH:
            self._forget(trial)
            self._on_halt(live.error["error_message"])
            return
        reason = f"{live.error['error_type']}: {live.error['error_message']}".splitlines()[0]
        self._close(trial, Outcome.FAILED, reason=reason)

    def _error_of(self, trial: Trial, live: Live, *, losses: int) -> dict[str, str]:
        error = _error_of(trial, losses)
        silent_s = time.monotonic() - live.heard_at
        if self._timeout_s is None or silent_s < self._timeout_s or error["error_type"] not in _DEATHS:
            return error
        message = (
            f"no report for {self._timeout_s:g} s; where it hung is in its worker's log, unless it was frozen. If an"
            " epoch may take longer, raise trial.timeout_s"
        )
        return {**error, "error_type": "TrialHung", "error_message": message}

    def _live_of(self, trial: Trial) -> Live:
        if trial.trial_id not in self._live:
            number = number_of(trial)
            stored = self._store.trial(number)
            values = {int(step): value for step, value in stored.intermediate_values.items()}
            self._trials[trial.trial_id] = trial
            best = metrics_attribute(self._unit.name, self._unit.telling_step(values))
            self._live[trial.trial_id] = Live(
                number,
                dict(trial.config[PARAMS]),
                self._unit,
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

    def _close(
        self,
        trial: Trial,
        outcome: Outcome,
        *,
        reason: str | None,
        value: Sequence[float] | None = None,
        constraints: dict[str, float] | None = None,
    ) -> None:
        live = self._forget(trial)
        attributes = {
            # Every trial has all attributes, even if it ended before its first report.
            **dict.fromkeys(TRIAL_ATTRIBUTES),
            "gpu_fraction": trial.config[GPU],
            **{doing.value: seconds for doing, seconds in live.clock.at(time.time()).items()},
            **live.facts,
            **(live.error or {}),
        }
        if live.values:
            # Every fold has its own best epoch, which is among its metrics.
            best_epoch = None if self._unit.is_fold else live.telling_step // self._unit.per_epoch or None
            # Over folds, the metric is the share of collapsed folds.
            collapsed = live.best_metrics.get("collapsed", 0.0) >= 0.5
            attributes |= {"best_epoch": best_epoch, "metrics": live.best_metrics, "collapsed": collapsed}
        self._store.close_trial(
            live.number, outcome, value=value, reason=reason, attributes=attributes, constraints=constraints
        )
        told = self._store.trial(live.number)
        self._checkpoints.settle(told)
        self._keep(at_once=True)
        self._on_close(told)

    def _keep(self, *, at_once: bool = False) -> None:
        if self._kept.save(at_once=at_once):
            self._checkpoints.sweep()


def _excess(live: Live) -> float:
    """Return the excess of the needed over the allowed memory, need / allowed − 1; a small one if it is unknown."""
    need, allowed = live.facts.get("need_gib"), live.facts.get("allowed_gib")
    if need and allowed and need > allowed:
        return float(need) / float(allowed) - 1
    return 0.01


def _error_of(trial: Trial, losses: int) -> dict[str, str]:
    """Return Ray's account of an error that the trial could not report: its worker died, or was unusable.

    Args:
        losses: number of times that the trial has lost its worker so far.
    """
    # Trial.get_pickled_error() reads from the storage, where the file may not have been copied yet.
    file = trial.pickled_error_file
    if not file or not Path(file).exists():
        return {"error_type": "WorkerLost", "error_message": "its worker ended without a word", "error_traceback": ""}
    error = cloudpickle.loads(Path(file).read_bytes())
    cause = getattr(error, "cause", None) or error
    message = str(cause)
    if isinstance(error, ray.exceptions.RayActorError):
        # The text before this phrase only names Ray's own objects.
        why = " ".join(message.split()).rpartition("The actor is dead because ")[2][:300]
        message = f"its worker was lost {'once' if losses == 1 else f'{losses} times; the last time'}: {why}"
    return {"error_type": type(cause).__name__, "error_message": message, "error_traceback": str(error)}
