"""Decisions on trials: reports and errors in, an outcome out."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from tune_app.distributed.decision import Decision, Judge, enter, is_final, named_death
from tune_app.distributed.messages import SentReport
from tune_app.objectives import Objective
from tune_app.outcomes import Outcome, TrialError
from tune_app.progress.live import Live
from tune_app.step_scale import StepScale
from tune_app.study.times import Doing, TrialClock

SCALE = StepScale.of(folds=None, epochs=3)
F1, SPEED = Objective("macro_f1", "max"), Objective("tokens_per_s", "max")
DIED = TrialError("ActorDiedError", "its worker was lost once: killed\nby someone")
DEFECT = TrialError("ValueError", "a defect\nof two lines", "line 3")
OUT_OF_REACH = TrialError("CheckpointsOutOfReachError", "node 3 lacks the folder")
NAN = math.nan


def measured(*values: float, ended: Any = None, **more: Any) -> list[SentReport]:
    """Return a report for each value; the last one ends the trial if ``ended`` is given."""
    reports = [SentReport(step, value) for step, value in enumerate(values, 1)]
    return [*reports[:-1], SentReport(len(values), values[-1], ended=ended, **more)]


@dataclass(frozen=True)
class Case:
    """Reports of a trial, its error if it raised one, and the decision."""

    name: str
    reports: list[SentReport]
    decision: Decision
    error: TrialError | None = None
    objectives: list[Objective] = field(default_factory=lambda: [F1])


def failed(reason: str, error: TrialError) -> Decision:
    return Decision(Outcome.FAILED, reason, error=error)


def unmeasured(reason: str) -> Decision:
    return failed(reason, TrialError("NonFiniteObjective", reason))


CASES = [
    Case("last epoch", measured(0.5, 0.7, 0.6, ended="complete"), Decision(Outcome.COMPLETE, values=[0.7])),
    Case(
        "patience",
        measured(0.5, 0.4, ended="complete", reason="patience"),
        Decision(Outcome.COMPLETE, "patience", values=[0.5]),
    ),
    Case("scheduler", measured(0.5, 0.4), Decision(Outcome.STOPPED, "asha stopped it after epoch 2 of 3")),
    Case("no report", [], Decision(Outcome.FAILED, "the trial ended without a report")),
    Case("nan", measured(0.5, NAN, 0.6, ended="complete"), unmeasured("the objective was nan in epoch 2")),
    Case("nan, then stopped", measured(math.inf), unmeasured("the objective was inf in epoch 1")),
    Case(
        "two objectives",
        measured(0.5, ended="complete", facts={"tokens_per_s": 80.0}),
        Decision(Outcome.COMPLETE, values=[0.5, 80.0]),
        objectives=[F1, SPEED],
    ),
    Case(
        "second objective lacks",
        measured(0.5, ended="complete"),
        unmeasured("not every objective was measured: tokens_per_s was None in epoch 1"),
        objectives=[F1, SPEED],
    ),
    Case(
        "out of memory",
        [*measured(0.5), SentReport(1, ended="oom", reason="too big", facts={"need_gib": 3.0, "allowed_gib": 2.0})],
        Decision(Outcome.OOM, "too big", constraints={"memory": 0.5}),
        error=TrialError("DiscardWorker", "not used again"),
    ),
    Case(
        "out of memory by an unknown excess",
        [SentReport(ended="oom", reason="too big", facts={"need_gib": 1.0, "allowed_gib": 2.0})],
        Decision(Outcome.OOM, "too big", constraints={"memory": 0.01}),
        error=DIED,
    ),
    Case("reported error", [SentReport(ended="failed", error=DEFECT)], failed("ValueError: a defect", DEFECT), DIED),
    Case("lost worker", measured(0.5), failed("ActorDiedError: its worker was lost once: killed", DIED), DIED),
    Case("halted", [SentReport(ended="halted", reason="the disk is full")], Decision(None), error=DEFECT),
    Case(
        "checkpoints out of reach",
        measured(0.5),
        Decision(None, halt="node 3 lacks the folder"),
        error=OUT_OF_REACH,
    ),
]


def live_of(reports: list[SentReport]) -> Live:
    live = Live(3, {}, SCALE, TrialClock(Doing.WAITING, 0.0))
    for report in reports:
        enter(report, live)
    return live


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_outcome_follows_from_reports_and_error(case: Case) -> None:
    judge, live, error = Judge(SCALE, case.objectives, "asha"), live_of(case.reports), case.error
    decision = judge.without_error(live) if error is None else judge.with_error(live, lambda: error)
    assert decision == case.decision


def test_rays_error_is_not_read_if_the_trial_reported_its_own() -> None:
    def read() -> TrialError:
        raise AssertionError("read in vain")

    for ended in ("oom", "halted"):
        Judge(SCALE, [F1], "asha").with_error(live_of([SentReport(ended=ended)]), read)


@pytest.mark.parametrize(
    ("report", "step", "final"),
    [
        (SentReport(1, 0.5), 1, False),
        (SentReport(2, 0.5, ended="complete"), 2, False),
        (SentReport(1, 0.5, fold_epoch=1), None, False),
        (SentReport(ended="oom"), None, True),
        (SentReport(ended="failed"), None, True),
        (SentReport(ended="halted"), None, True),
    ],
)
def test_only_a_measurement_is_a_step(report: SentReport, step: int | None, final: bool) -> None:
    live = live_of([])
    assert (enter(report, live), is_final(report), set(live.values)) == (step, final, {step} - {None})


def test_the_scores_of_the_best_step_are_remembered_and_facts_add_up() -> None:
    live = live_of(
        [
            SentReport(1, 0.7, {"loss": 0.3}, {"peak_gib": 1.0}, breakdowns={"by_criterion": {"a": {"f1": 0.7}}}),
            SentReport(2, 0.5, {"loss": 0.2}, {"recoveries": 1}),
        ]
    )
    assert (live.best_metrics, live.metrics, live.breakdowns) == (
        {"loss": 0.3},
        {"loss": 0.2},
        {"by_criterion": {"a": {"f1": 0.7}}},
    )
    assert live.facts == {"peak_gib": 1.0, "recoveries": 1}


@pytest.mark.parametrize(
    ("error", "silent_s", "timeout_s", "named"),
    [
        (DIED, 61.0, 60.0, "TrialHung"),
        (DIED, 59.0, 60.0, "ActorDiedError"),
        (DIED, 1e6, None, "ActorDiedError"),
        (DEFECT, 61.0, 60.0, "ValueError"),
    ],
)
def test_a_worker_that_ended_after_its_timeout_hung(
    error: TrialError, silent_s: float, timeout_s: float | None, named: str
) -> None:
    death = named_death(error, silent_s=silent_s, timeout_s=timeout_s)
    assert death.error_type == named
    assert ("raise trial.timeout_s" in death.error_message) == (named == "TrialHung")
