"""Recorded times of trials, and the planned work of trials beside the work that they do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.machine import MachineFiles
from trainables.planning.course import CoursePlanner
from trainables.planning.timings import PaceLedger
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params


def test_a_session_records_what_it_did_since_the_last_record(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession], tmp_path: Path
) -> None:
    session, ledger = session_of(settings), PaceLedger(tmp_path / "pace.jsonl")
    session.train_epoch()
    session.evaluate("validation")
    session.save(tmp_path / "checkpoint")
    session.record_pace(ledger, at_once=2)
    session.train_epoch()
    session.record_pace(ledger, at_once=2)
    session.record_pace(ledger, at_once=2)
    first, second = ledger.timings()
    assert first.train.calls == second.train.calls == session.steps_per_epoch
    assert first.train.tokens >= first.train.passes > 0
    assert first.train.seconds > 0
    assert first.evaluation.calls == 1
    assert second.evaluation.calls == 0
    assert (first.setup.models, first.setup.threads, first.setup.at_once) == ((settings.model.name,), 1, 2)
    assert first.start_s is not None
    assert first.saved_bytes == sum(file.stat().st_size for file in (tmp_path / "checkpoint").iterdir())
    assert (second.start_s, second.save_s) == (None, None)
    assert (first.is_warm, second.is_warm) == (False, True)


@pytest.mark.parametrize("batch", [4, 16, 200])
def test_the_planned_work_of_an_epoch_is_that_of_a_trained_one(
    batch: int, settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession], tmp_path: Path
) -> None:
    settings = with_params(settings, {"train.batch_size": batch})
    session, ledger = session_of(settings), PaceLedger(tmp_path / "pace.jsonl")
    session.train_epoch()
    session.evaluate("validation")
    session.record_pace(ledger, at_once=1)
    (done,) = ledger.timings()
    planner = CoursePlanner(MachineFiles(), tmp_path)
    planned = planner.course(settings, session.batch_limits.row_limits)
    assert planned.train.calls == done.train.calls
    assert planned.train.passes == pytest.approx(done.train.passes, rel=0.35)
    assert planned.train.tokens == pytest.approx(done.train.tokens, rel=0.15)
    assert planned.evaluation.tokens == pytest.approx(done.evaluation.tokens, rel=0.25)
    assert planned.rung_evaluation.tokens <= planned.evaluation.tokens
