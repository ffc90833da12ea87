"""Counts, ranks and times, read from the study alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import create_trial

from search_spaces.rules import Violation
from search_spaces.space import parse_space
from tune_app.durations import duration_text
from tune_app.outcomes import Outcome
from tune_app.study.record import StudyRecord
from tune_app.study.reporting import (
    leaderboard,
    outcome_of,
    params_text,
    reason_of,
    study_status,
)
from tune_app.study.store import Parent, StudyStore, load_study, open_study


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    space = parse_space({"train.batch_size": {"choices": [8, 16, 32]}})
    return open_study(tmp_path, "criteria-demo", None, StudyRecord(space, "criteria", "macro_f1", "max", "data"))


def add(store: StudyStore, outcome: Outcome | None, value: float | None = None, batch: int = 8) -> int:
    params: dict[str, Any] = {"train.batch_size": batch}
    if outcome is Outcome.INFEASIBLE:
        return store.record_infeasible(params, [Violation("size_limits", "too large", 0.5)])
    number = store.open_trial(params, {})
    if outcome is not None:
        store.close_trial(number, outcome, value=value, reason="why")
    return number


def test_the_json_is_the_contracts_to_the_key(store: StudyStore) -> None:
    store.set_target(12)
    add(store, Outcome.STOPPED)
    add(store, Outcome.COMPLETE, 0.5)
    best = add(store, Outcome.COMPLETE, 0.75, batch=16)
    for outcome in (Outcome.OOM, Outcome.INFEASIBLE, Outcome.INFEASIBLE, Outcome.FAILED, None):
        add(store, outcome)
    text = study_status(store, is_running=True).as_json()
    assert len(text.splitlines()) == 1
    assert json.loads(text) == {
        "study": "criteria-demo",
        "metric": "macro_f1",
        "mode": "max",
        "target": 12,
        "launched": 6,
        "trials": {
            "complete": 2,
            "stopped": 1,
            "oom": 1,
            "infeasible": 2,
            "failed": 1,
            "running": 1,
            "interrupted": 0,
        },
        "best": {"number": best, "value": 0.75, "params": {"train.batch_size": 16}},
    }


def test_carried_over_trials_are_ranked_but_do_not_count_as_launched(tmp_path: Path) -> None:
    space = parse_space({"train.batch_size": {"choices": [8, 16, 32]}})
    record = StudyRecord(space, "criteria", "macro_f1", "max", "data")
    forked = open_study(tmp_path, "x-v2", None, record, parent=Parent("x", str(tmp_path / "x"), None))
    forked.carry_over(
        create_trial(
            state=outcome.state,
            value=0.75 if outcome is Outcome.COMPLETE else None,
            params={"train.batch_size": 8},
            distributions=forked.distributions,
            user_attrs={"outcome": outcome.value, "carried_from": {"study": "x", "trial": 7}},
        )
        for outcome in (Outcome.COMPLETE, Outcome.INFEASIBLE, Outcome.FAILED)
    )
    forked.set_target(2)
    add(forked, Outcome.COMPLETE, 0.5)
    status = json.loads(study_status(forked, is_running=False).as_json())
    assert (status["launched"], status["trials"]["complete"], status["trials"]["infeasible"]) == (1, 1, 0)
    assert status["carried"] == {"complete": 1, "infeasible": 1, "failed": 1}
    assert (status["best"]["number"], status["best"]["carried_from"]) == (0, {"study": "x", "trial": 7})
    assert [trial.number for trial in leaderboard(forked.trials(), record.objectives)] == [0, 3]


def test_an_empty_study_has_no_best(store: StudyStore) -> None:
    status = json.loads(study_status(store, is_running=False).as_json())
    assert status["best"] is None
    assert status["launched"] == 0
    assert set(status["trials"].values()) == {0}


def test_best_is_null_while_nothing_is_complete(store: StudyStore) -> None:
    number = add(store, None)
    store.report(number, 1, 0.9)
    add(store, Outcome.STOPPED)
    add(store, Outcome.INFEASIBLE)
    assert study_status(store, is_running=True).best is None


@pytest.mark.parametrize(("is_running", "counted"), [(True, "running"), (False, "interrupted")])
def test_an_open_trial_runs_only_while_a_search_does(store: StudyStore, is_running: bool, counted: str) -> None:
    add(store, None)
    add(store, None)
    status = study_status(store, is_running=is_running)
    assert {name: count for name, count in status.trials.items() if count} == {counted: 2}
    assert status.launched == 2


def test_an_open_trial_that_knows_its_outcome_but_was_not_told_is_still_open(store: StudyStore) -> None:
    number = add(store, None)
    store.set_attributes(number, {"outcome": "complete"})
    assert outcome_of(store.trial(number)) is None
    assert study_status(store, is_running=False).trials["interrupted"] == 1


def test_a_status_can_be_read_while_the_search_writes(store: StudyStore, tmp_path: Path) -> None:
    reader = load_study(tmp_path, "criteria-demo", None)
    add(store, Outcome.COMPLETE, 0.5)
    assert study_status(reader, is_running=True).trials["complete"] == 1
    add(store, Outcome.FAILED)
    assert study_status(reader, is_running=True).launched == 2


def test_the_best_comes_first_and_the_earlier_among_equals(store: StudyStore) -> None:
    values = [0.5, 0.75, 0.25, 0.75, 0.5]
    for value in values:
        add(store, Outcome.COMPLETE, value)
    add(store, Outcome.STOPPED)
    add(store, None)
    assert [trial.number for trial in leaderboard(store.trials(), store.record.objectives)] == [1, 3, 0, 4, 2]
    assert [trial.number for trial in leaderboard(list(reversed(store.trials())), store.record.objectives)] == [
        1,
        3,
        0,
        4,
        2,
    ]
    best = study_status(store, is_running=False).best
    assert best is not None
    assert best.number == 1


def test_every_ended_trial_has_its_outcome_and_reason(store: StudyStore) -> None:
    expected = list(Outcome)
    for outcome in expected:
        add(store, outcome, 0.5 if outcome is Outcome.COMPLETE else None)
    trials = store.trials()
    assert [outcome_of(trial) for trial in trials] == expected
    assert [reason_of(trial) for trial in trials] == ["why", "why", "why", "too large", "why"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (75, "1 min 15 s"),
        (3599.6, "1 h 0 min"),
        (3661, "1 h 1 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_sample_fits_on_a_line() -> None:
    params = {
        "model.name": "tiny-bert",
        "schedule.name": "linear",
        "train.batch_size": 16,
        "optim.lr": 0.000123456,
        "train.flag": True,
    }
    assert params_text(params) == "model=tiny-bert schedule=linear batch_size=16 lr=0.000123 flag=True"
