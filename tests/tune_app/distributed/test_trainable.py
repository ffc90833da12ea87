"""Workers whose trial cannot save checkpoints: they wait, or let it run again elsewhere."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from trainables.content import InputsChangedError
from trainables.reports import Report, TrialReport
from trainables.settings import TrialSettings
from trainables.worker import WorkerNotCleanError
from tune_app.config import parse_config
from tune_app.distributed import trainable
from tune_app.distributed.messages import Launch, SentReport
from tune_app.distributed.nodes import OneMachine
from tune_app.distributed.trainable import CheckpointsOutOfReachError
from tune_app.study.checkpoints import CheckpointStorage

STORE = CheckpointStorage("s3://key:hush@bucket/runs")


class Action:
    """Action that raises each of the errors before it succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tried = 0

    def __call__(self) -> str:
        self.tried += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainable, "_PAUSE_S", 0.0)


def test_a_store_that_answers_again_costs_nothing_but_time() -> None:
    action = Action(OSError("no answer"), OSError("no answer"))
    assert trainable._patiently(STORE, action) == "done"
    assert action.tried == 3


def test_a_store_that_stays_away_is_not_the_trials_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainable, "_PATIENCE_S", -1.0)
    with pytest.raises(
        CheckpointsOutOfReachError, match="the store of the checkpoints does not answer: no answer from key:"
    ) as caught:
        trainable._patiently(STORE, Action(OSError("no answer from key:hush")))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("a defect")])
def test_an_answer_is_not_waited_for(error: Exception) -> None:
    action = Action(error)
    with pytest.raises(type(error)):
        trainable._patiently(STORE, action)
    assert action.tried == 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_disk_is_written_to_once(kept: bool, tmp_path: Path) -> None:
    action = Action(OSError("full"))
    with pytest.raises(OSError, match="full"):
        trainable._patiently(CheckpointStorage(str(tmp_path)) if kept else None, action)
    assert action.tried == 1


def test_a_node_that_joined_without_the_place_of_the_checkpoints_is_named(tmp_path: Path) -> None:
    storage = CheckpointStorage(str(tmp_path))
    with pytest.raises(
        CheckpointsOutOfReachError, match=rf"node [\d.]+ does not have {tmp_path}, where checkpoints lie"
    ):
        trainable._require_reach(storage, "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    trainable._require_reach(storage, "checkpoints")


def test_a_disk_that_is_full_for_a_trial_is_named_and_no_error_of_its_own_is(tmp_path: Path) -> None:
    storage = CheckpointStorage(str(tmp_path))
    full = RuntimeError("writing failed")
    full.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    why = trainable._no_trials_fault(full, storage)
    assert why is not None
    assert "No space left on device" in why
    assert why.endswith(f"(a trial was writing to {tempfile.gettempdir()} or {tmp_path})")
    assert trainable._no_trials_fault(InputsChangedError("data.path: gone"), None) == "data.path: gone"
    assert trainable._no_trials_fault(FileNotFoundError("a trial's own"), storage) is None


Trial = Callable[[TrialSettings, Report, trainable.Workspace], None]


@pytest.fixture
def sent_by(monkeypatch: pytest.MonkeyPatch, plain_config: dict[str, Any], tmp_path: Path) -> Any:
    """Return a function that runs a trial as a worker does, and returns its messages and the error that it raised."""
    sent: list[SentReport] = []
    monkeypatch.setattr(tune, "report", lambda result, checkpoint=None: sent.append(SentReport.from_dict(result)))
    monkeypatch.setattr(trainable, "_claimed_card", lambda: "cpu")

    def run(run_trial: Trial, **launch: Any) -> tuple[list[SentReport], Exception | None]:
        function = trainable.make_trainable(
            parse_config(plain_config).trial_settings(),
            tmp_path,
            files=OneMachine(),
            storage=None,
            folder="checkpoints",
            threads=1,
            at_once=1,
            host_share=0.5,
            timeout_s=None,
            run_trial=run_trial,
        )
        try:
            function(Launch(3, {"optim.lr": 0.25}, **launch).as_dict())
        except Exception as error:
            return sent, error
        return sent, None

    return run


def test_a_trial_trains_what_was_launched_and_reports_to_the_driver(sent_by: Any) -> None:
    def trial(settings: TrialSettings, report: Report, workspace: trainable.Workspace) -> None:
        report(TrialReport(1, settings.optim.lr, {"share": workspace.share}, ended="complete"))

    assert sent_by(trial) == ([SentReport(1, 0.25, {"share": 0.5}, ended="complete")], None)
    assert sent_by(trial, gpus=0.25)[0][-1].metrics == {"share": 0.25}
    assert sent_by(trial, gpus=2.0)[0][-1].metrics == {"share": 1.0}


def test_a_trial_s_error_is_reported_before_it_is_raised(sent_by: Any) -> None:
    def trial(settings: TrialSettings, report: Report, workspace: trainable.Workspace) -> None:
        raise ValueError("a defect")

    (report,), raised = sent_by(trial)
    assert isinstance(raised, ValueError)
    assert report.ended == "failed"
    assert (report.error.error_type, report.error.error_message) == ("ValueError", "a defect")
    assert "raise ValueError" in report.error.error_traceback


def test_a_problem_of_every_trial_halts_the_search(sent_by: Any) -> None:
    def trial(settings: TrialSettings, report: Report, workspace: trainable.Workspace) -> None:
        raise InputsChangedError("data.path: gone")

    (report,), raised = sent_by(trial)
    assert isinstance(raised, InputsChangedError)
    assert (report.ended, report.reason) == ("halted", "data.path: gone")


def test_an_error_of_the_worker_is_not_reported_as_the_trials(sent_by: Any) -> None:
    def trial(settings: TrialSettings, report: Report, workspace: trainable.Workspace) -> None:
        raise WorkerNotCleanError("an earlier trial left 1.00 GiB in this worker")

    reports, raised = sent_by(trial)
    assert reports == []
    assert isinstance(raised, WorkerNotCleanError)


def test_a_worker_that_ran_out_of_memory_is_discarded(sent_by: Any) -> None:
    def trial(settings: TrialSettings, report: Report, workspace: trainable.Workspace) -> None:
        report(TrialReport(0, float("nan"), ended="oom", reason="too big"))

    (report,), raised = sent_by(trial)
    assert (report.ended, report.reason, type(raised)) == ("oom", "too big", trainable.DiscardWorker)
