"""Budget of a study in hours, its clock, and the line on what ends it first."""

import time

import pytest

from search_spaces.space import parse_space
from tune_app.commands.endings import endings_line
from tune_app.config import RunConfig, parse_config
from tune_app.outcomes import Outcome
from tune_app.study.budget import Budget, SearchClock
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course
from tune_app.study.store import StudyStore, StudyTime, study_in_memory


@pytest.fixture
def store() -> StudyStore:
    space = parse_space({"optim.lr": {"low": 0.01, "high": 1.0}})
    empty = study_in_memory(StudyRecord(space, "criteria", "macro_f1", "max", "data"))
    empty.set_target(10)
    return empty


def complete(store: StudyStore, working_s: float, value: float = 0.5) -> None:
    number = store.open_trial({"optim.lr": 0.1}, {})
    store.report(number, 1, value)
    store.close_trial(number, Outcome.COMPLETE, value=value, attributes={"working_s": working_s})


def config(*overrides: str) -> RunConfig:
    raw = {
        "study": {"name": "x"},
        "data": {"path": "demo"},
        "scheduler": {"name": "none"},
        "train": {"epochs": 1},
        "search": {"trials": 10, "max_concurrent": 1},
        "space": {"optim.lr": {"low": 0.01, "high": 1.0}},
    }
    return parse_config(raw, overrides)


def test_a_trial_that_would_end_after_the_budget_is_not_launched(store: StudyStore) -> None:
    budget = Budget(3600, Course(1), lambda params: 600.0)
    assert budget.why_not({}, store.trials(), taken_s=2900) is None
    why = budget.why_not({}, store.trials(), taken_s=3100)
    assert why is not None
    assert "search.max_hours 1" in why
    assert "51 min 40 s" in why


def test_without_a_plan_the_studys_own_trials_tell_how_long_another_takes(store: StudyStore) -> None:
    budget = Budget(3600, Course(1), lambda params: None)
    assert budget.why_not({}, store.trials(), taken_s=3599) is None
    complete(store, working_s=900)
    assert budget.why_not({}, store.trials(), taken_s=2600) is None
    assert budget.why_not({}, store.trials(), taken_s=2800) is not None


def test_the_clock_counts_over_all_searches(store: StudyStore) -> None:
    store.set_time(StudyTime(taken_s=100.0))
    clock = SearchClock(store, time.monotonic() - 50)
    clock.record()
    assert store.time.taken_s == pytest.approx(150, abs=5)
    assert SearchClock(store, time.monotonic()).taken_s == pytest.approx(150, abs=5)


def test_the_clock_is_not_written_at_every_trial(store: StudyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = SearchClock(store, began=1000.0)
    taken = []
    for now[0] in (1004.0, 1012.0, 1016.0, 1030.0):
        clock.keep()
        taken.append(store.time.taken_s)
    assert taken == [0.0, 12.0, 12.0, 30.0]


def test_what_ends_a_study_first_is_said(store: StudyStore) -> None:
    for _ in range(2):
        complete(store, working_s=600)
    store.set_time(StudyTime(taken_s=1200))
    assert endings_line(store, config(), running=True) is None
    # The other eight trials take 80 minutes.
    assert endings_line(store, config("search.max_hours=1"), running=True) == (
        "ends first: the budget of 1 h (search.max_hours) in about 40 min 0 s; all 10 trials (search.trials) in about"
        " 1 h 20 min"
    )
    late = endings_line(store, config("search.max_hours=5"), running=True)
    assert late is not None
    assert late.startswith("ends first: all 10 trials")


def test_an_end_by_too_little_gain_is_foreseen(store: StudyStore) -> None:
    store.set_target(100)
    store.set_standard_error(0.01)
    auto = config("search.stop=auto")
    complete(store, working_s=60)
    young = endings_line(store, auto, running=True)
    assert young is not None
    assert "not before 15 trials" in young
    for position in range(20):
        complete(store, working_s=60, value=0.5 + 0.02 * (position % 3))
    line = endings_line(store, auto, running=True)
    assert line is not None
    assert line.startswith("ends first: too little gain to expect")
