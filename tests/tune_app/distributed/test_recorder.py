"""Recorder of a trial's times: it separates them by activity, over a pause at a rung and over an interruption."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from search_spaces.space import parse_space
from tune_app.distributed import recorder
from tune_app.distributed.messages import Launch, SentReport
from tune_app.step_scale import StepScale
from tune_app.study.record import StudyRecord
from tune_app.study.store import StudyStore, open_study

PARAMS_OF_TRIAL = {"optim.lr": 0.1}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock that stands still until it is set."""
    clock = SimpleNamespace(s=0.0)
    monkeypatch.setattr(recorder, "time", SimpleNamespace(time=lambda: clock.s, monotonic=lambda: clock.s))
    return clock


def recorder_of(store: StudyStore, waiting: set[int]) -> recorder.StudyRecorder:
    nothing: Any = SimpleNamespace(settle=lambda _: None, sweep=lambda: None, save=lambda at_once: False, paused=0)
    return recorder.StudyRecorder(
        store,
        nothing,
        nothing,
        permanent_storage=nothing,
        step_scale=StepScale.of(folds=None, epochs=4),
        scheduler="asha",
        timeout_s=None,
        on_report=lambda *_: None,
        on_retry=lambda *_: None,
        on_note=lambda *_: None,
        on_halt=lambda _: None,
        on_close=lambda _: None,
        on_step=lambda _: None,
        waiting=lambda: waiting,
    )


def test_working_waiting_and_paused_time_are_stored(tmp_path: Path, now: SimpleNamespace) -> None:
    space = parse_space({"optim.lr": {"choices": [0.1, 0.2]}})
    store = open_study(tmp_path, "x", None, StudyRecord(space, "criteria", "macro_f1", "max", "data"))
    number = store.open_trial(PARAMS_OF_TRIAL, {})
    begun = store.trial(number).datetime_start
    assert begun is not None
    start = begun.timestamp()
    waiting: set[int] = set()

    def at(second: float) -> None:
        now.s = start + second

    at(0)
    first = recorder_of(store, waiting)
    trial: Any = SimpleNamespace(trial_id="a", status=Trial.PENDING, config=Launch(number, PARAMS_OF_TRIAL).as_dict())
    at(5)
    first.on_trial_start(0, [], trial)
    trial.status = Trial.RUNNING
    at(15)
    first.on_trial_result(0, [], trial, SentReport(1, 0.5).as_dict())
    trial.status = Trial.PAUSED
    waiting.add(number)
    first.on_step_begin(0, [])
    assert store.trial(number).user_attrs["waits_at"] == 1
    # The search is killed while the trial waits, and resumed the next day.
    at(90_000)
    second = recorder_of(store, waiting)
    again: Any = SimpleNamespace(trial_id="b", status=Trial.PENDING, config=trial.config)
    waiting.clear()
    at(90_002)
    second.on_trial_start(0, [], again)
    again.status = Trial.RUNNING
    at(90_012)
    second.on_trial_result(0, [], again, SentReport(2, 0.75, ended="complete").as_dict())
    second.on_trial_complete(0, [], again)
    attributes = store.trial(number).user_attrs
    spent = {name: attributes[name] for name in ("working_s", "waiting_s", "paused_s")}
    assert attributes["queued_s"] == pytest.approx(5, abs=0.01)
    assert spent == pytest.approx({"working_s": 20, "waiting_s": 7, "paused_s": 89_985}, abs=0.01)
