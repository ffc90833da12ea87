"""Decisions on trials from their reports and errors: a step, an outcome, or a trial that stays open.

Everything here is a pure function of what the driver knows; ``recorder.py`` carries the decisions out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tune_app.distributed.messages import SentReport
from tune_app.objectives import Objective, measured
from tune_app.outcomes import Outcome, TrialError
from tune_app.progress.live import Live
from tune_app.step_scale import StepScale

# Ray errors that mean the worker is gone.
_DEATHS = ("ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "WorkerLost")

# Error of a trial that cannot save checkpoints. After the trial's retries, it ends the search.
_OUT_OF_REACH = "CheckpointsOutOfReachError"


@dataclass(frozen=True)
class Decision:
    """Decision on a trial that ended.

    Attributes:
        outcome: outcome to record; None leaves the trial open, so that the next search resumes it.
        reason: reason for the outcome, for a person.
        values: values of all objectives of a complete trial.
        constraints: constraints that the trial violated, with their excess.
        error: error of a failed trial.
        halt: reason for which no other trial can run either; None without one.
    """

    outcome: Outcome | None
    reason: str | None = None
    values: Sequence[float] | None = None
    constraints: Mapping[str, float] = field(default_factory=dict)
    error: TrialError | None = None
    halt: str | None = None


def is_final(report: SentReport) -> bool:
    """Return whether a report ends its trial without a measurement, so that another run would end the same way."""
    return report.ended in ("oom", "failed", "halted")


def enter(report: SentReport, live: Live) -> int | None:
    """Record a report in the driver's knowledge of its trial.

    Returns:
        The step that the report measures; None for a final report or one from within a fold, which measure no step.
    """
    live.ended, live.reason, live.error = report.ended, report.reason, report.error
    live.facts.update(report.facts)
    if is_final(report):
        return None
    live.fold_epoch = report.fold_epoch
    if report.fold_epoch is not None:
        return None
    live.values[report.step] = report.value
    live.metrics = dict(report.metrics)
    if live.representative_step == report.step:
        live.best_metrics = live.metrics
        live.breakdowns = report.breakdowns
    return report.step


def named_death(error: TrialError, *, silent_s: float, timeout_s: float | None) -> TrialError:
    """Return the error of a lost worker, named as a hang if the worker had been silent for too long.

    Args:
        silent_s: seconds since the trial's last start or report.
        timeout_s: seconds after which a silent worker ends itself; None if it never does.
    """
    if timeout_s is None or silent_s < timeout_s or error.error_type not in _DEATHS:
        return error
    message = (
        f"no report for {timeout_s:g} s; its worker's log shows where it hung, unless it was frozen. If an epoch may"
        " take longer, raise trial.timeout_s"
    )
    return replace(error, error_type="TrialHung", error_message=message)


@dataclass(frozen=True)
class Judge:
    """Maker of the decisions on trials that ended.

    Args:
        step_scale: scale of the trials' reports.
        objectives: objectives of the study.
        scheduler: name of the scheduler, for the reason of a stopped trial.
    """

    step_scale: StepScale
    objectives: Sequence[Objective]
    scheduler: str

    def without_error(self, live: Live) -> Decision:
        """Decide on a trial that reported its end, or that the scheduler stopped."""
        if not live.values:
            return Decision(Outcome.FAILED, "the trial ended without a report")
        bad_step = next((step for step, value in live.values.items() if not math.isfinite(value)), None)
        if bad_step is not None:
            return _unmeasured(f"the objective was {live.values[bad_step]} in {self.step_scale.label(bad_step)}")
        if live.ended == "complete":
            return self._complete(live)
        last = self.step_scale.shown(self.step_scale.count)
        return Decision(
            Outcome.STOPPED, f"{self.scheduler} stopped it after {self.step_scale.label(live.step)} of {last}"
        )

    def with_error(self, live: Live, lost: Callable[[], TrialError]) -> Decision:
        """Decide on a trial that raised an error and is not run again.

        Args:
            lost: returns the error of a trial that could not report one.
        """
        if live.ended == "halted":
            return Decision(None)
        if live.ended == "oom":
            return Decision(Outcome.OOM, live.reason, constraints={"memory": _excess(live)})
        error = live.error or lost()
        if error.error_type == _OUT_OF_REACH:
            return Decision(None, halt=error.error_message)
        return Decision(Outcome.FAILED, error.line, error=error)

    def _complete(self, live: Live) -> Decision:
        first = self.step_scale.last_value(live.values)
        assert first is not None, "there are finite values"
        values = [
            value for value in measured(self.objectives, first, live.best_metrics, live.facts) if value is not None
        ]
        if len(values) == len(self.objectives) and all(map(math.isfinite, values)):
            return Decision(Outcome.COMPLETE, live.reason, values=values)
        known = {**live.facts, **live.best_metrics}
        others = [f"{objective.name} was {known.get(objective.name)}" for objective in self.objectives[1:]]
        where = self.step_scale.label(live.representative_step)
        return _unmeasured(f"not every objective was measured: {', '.join(others)} in {where}")


def _unmeasured(message: str) -> Decision:
    return Decision(Outcome.FAILED, message, error=TrialError("NonFiniteObjective", message))


def _excess(live: Live) -> float:
    """Return the relative excess of the needed over the allowed memory, need / allowed − 1; 0.01 if it is unknown."""
    need, allowed = live.facts.get("need_gib"), live.facts.get("allowed_gib")
    if need and allowed and need > allowed:
        return float(need) / float(allowed) - 1
    # A violated constraint must be above 0.
    return 0.01
