"""Messages between driver and worker: each survives Ray, which carries a dictionary and adds entries of its own."""

import json
import math
from types import SimpleNamespace

import pytest

from trainables.reports import TrialReport
from tune_app.distributed.messages import Launch, SentReport, decides_nothing, is_recommended, number_of
from tune_app.outcomes import TrialError

LAUNCHES = [
    Launch(0, {}),
    Launch(7, {"optim.lr": 0.1, "model.name": "tiny-bert"}, 0.25, ("/a/2", "/a/1"), is_recommended=True, plans="{}"),
]
REPORTS = [
    SentReport(1, 0.5),
    SentReport(
        3,
        0.75,
        {"loss": 0.5},
        {"peak_gib": 1.5},
        "complete",
        "patience",
        breakdowns={"by_criterion": {"a": {"f1": 0.5}}},
    ),
    SentReport(1, 0.5, fold_epoch=2),
    SentReport(ended="failed", error=TrialError("ValueError", "a defect", "line 3")),
    SentReport(ended="halted", reason="the disk is full"),
]


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_launch_arrives_as_it_was_sent(launch: Launch) -> None:
    assert Launch.from_dict({**launch.as_dict(), "training_iteration": 1}) == launch
    trial = SimpleNamespace(config=launch.as_dict())
    assert (number_of(trial), is_recommended(trial)) == (launch.number, launch.is_recommended)


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_arrives_as_it_was_sent(report: SentReport) -> None:
    sent = {**report.as_dict(), "training_iteration": 1, "config": {"step": 9}}
    received = SentReport.from_dict(sent)
    if math.isnan(report.value):
        assert math.isnan(received.value)
    else:
        assert received == report
    assert received.as_dict().keys() == report.as_dict().keys()
    assert (received.ended, received.reason, received.error) == (report.ended, report.reason, report.error)
    json.dumps(report.as_dict())


def test_a_trial_s_own_report_is_sent_whole_but_for_its_checkpoint() -> None:
    own = TrialReport(
        2, 0.5, {"loss": 0.1}, {"recoveries": 1}, fold_epoch=3, breakdowns={"by_criterion": {"a": {"f1": 0.5}}}
    )
    sent = SentReport.of(own).as_dict()
    assert all(sent[name] == value for name, value in vars(own).items() if name != "checkpoint")


@pytest.mark.parametrize("lacking", ["number", "params"])
def test_a_launch_without_a_number_or_a_configuration_is_an_error(lacking: str) -> None:
    sent = LAUNCHES[1].as_dict()
    del sent[lacking]
    with pytest.raises(KeyError, match=lacking):
        Launch.from_dict(sent)


@pytest.mark.parametrize(
    ("report", "expected"),
    [(REPORTS[0], False), (REPORTS[1], True), (REPORTS[2], True), (REPORTS[3], True), (REPORTS[4], True)],
)
def test_a_scheduler_decides_only_on_finished_steps_of_trials_that_go_on(report: SentReport, expected: bool) -> None:
    assert decides_nothing(report.as_dict()) is expected
