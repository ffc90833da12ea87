"""Study: it records every trial and reports differences; the same on a journal file and on a database."""

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces.rules import Violation
from search_spaces.space import parse_space
from tune_app.databases import sqlite_url
from tune_app.errors import UserError
from tune_app.outcomes import Outcome
from tune_app.study.record import StudyRecord
from tune_app.study.store import (
    JOURNAL_FILE,
    LOCK_FILE,
    StudyStore,
    check_name,
    load_study,
    open_study,
    search_is_running,
    search_lock,
    study_names,
)

ENTRIES: dict[str, Any] = {
    "model.name": {"choices": ["bert-base", "bert-large"]},
    "train.batch_size": {"low": 8, "high": 64, "step": 8},
    "optim.lr": {"low": 1e-5, "high": 1e-3, "log": True},
}
MLFLOW_TABLES = """
CREATE TABLE experiments (id INTEGER); CREATE TABLE runs (id INTEGER); CREATE TABLE metrics (id INTEGER);
CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('bd07f7e963c5');
"""
PARAMS: dict[str, Any] = {"model.name": "bert-base", "train.batch_size": 16, "optim.lr": 1e-4}
RECORD = StudyRecord(
    space=parse_space(ENTRIES), task="criteria", metric="macro_f1", mode="max", data_fingerprint="0123456789abcdef"
)


@dataclass(frozen=True)
class Backend:
    run_dir: Path
    url: str | None

    def open(self, record: StudyRecord = RECORD, name: str = "test") -> StudyStore:
        return open_study(self.run_dir, name, self.url, record)

    def load(self, name: str = "test") -> StudyStore:
        return load_study(self.run_dir, name, self.url)


@pytest.fixture
def backend(storage_url: str | None, tmp_path: Path) -> Backend:
    return Backend(tmp_path, storage_url)


def test_a_study_opened_again_is_the_same(backend: Backend) -> None:
    first = backend.open()
    assert (first.name, first.trials(), first.target) == ("test", [], 0)
    first.set_target(12)
    number = first.open_trial(PARAMS, {})
    for again in (backend.open(), backend.load()):
        assert again.record == RECORD
        assert again.target == 12
        assert [trial.number for trial in again.trials()] == [number]
        assert again.distributions == first.distributions


def test_a_target_may_change(backend: Backend) -> None:
    store = backend.open()
    store.set_target(3)
    store.set_target(5)
    assert backend.load().target == 5


def changed_space(**changes: Any) -> StudyRecord:
    entries = {**ENTRIES, **changes}
    return replace(RECORD, space=parse_space({name: entry for name, entry in entries.items() if entry is not None}))


DIFFERENCES: list[tuple[str, StudyRecord, list[str]]] = [
    (
        "choices changed",
        changed_space(**{"model.name": {"choices": ["bert-base"]}}),
        ['model.name: ["bert-base", "bert-large"] there, ["bert-base"] here'],
    ),
    (
        "range changed",
        changed_space(**{"train.batch_size": {"low": 8, "high": 128, "step": 8}}),
        ["train.batch_size:", '"high": 64', '"high": 128'],
    ),
    (
        "log dropped",
        changed_space(**{"optim.lr": {"low": 1e-5, "high": 1e-3}}),
        ["optim.lr:", '"log": true', '"log": false'],
    ),
    (
        "entry added",
        changed_space(**{"head.dropout": {"choices": [0.1]}}),
        ["head.dropout: not searched there, [0.1] here"],
    ),
    ("entry removed", changed_space(**{"optim.lr": None}), ["optim.lr:", "there, not searched here"]),
    ("task", replace(RECORD, task="evidence"), ["task.name: criteria there, evidence here"]),
    ("metric", replace(RECORD, metric="auc"), ["search.metric: macro_f1 (max) there, auc (max) here"]),
    (
        "data",
        replace(RECORD, data_fingerprint="f" * 64),
        ["data: fingerprint 0123456789ab there, fingerprint ffffffffffff here"],
    ),
]


@pytest.mark.parametrize(("record", "parts"), [row[1:] for row in DIFFERENCES], ids=[row[0] for row in DIFFERENCES])
def test_a_study_about_something_else_is_refused_with_what_differs(
    backend: Backend, record: StudyRecord, parts: list[str]
) -> None:
    backend.open().open_trial(PARAMS, {})
    with pytest.raises(UserError) as caught:
        backend.open(record)
    message = str(caught.value)
    assert [part for part in ["study.name:", "--fresh", *parts] if part not in message] == [], message
    assert len(message.splitlines()) == 1
    assert backend.load().record == RECORD, "nothing was changed"


def test_all_differences_are_named_at_once(tmp_path: Path) -> None:
    backend = Backend(tmp_path, None)
    backend.open()
    other = replace(changed_space(**{"optim.lr": None}), task="evidence", data_fingerprint="f")
    with pytest.raises(UserError, match=r"task\.name: .*; data: .*; optim\.lr: "):
        backend.open(other)


def test_the_order_of_the_space_makes_no_difference(backend: Backend) -> None:
    backend.open()
    backend.open(replace(RECORD, space=parse_space(dict(reversed(ENTRIES.items())))))


def test_a_trial_is_recorded_whole_before_it_is_launched(backend: Backend) -> None:
    number = backend.open().open_trial(PARAMS, {"suggested_at": 1.5})
    trial = backend.load().trial(number)
    assert trial.state == TrialState.RUNNING
    assert trial.params == PARAMS
    assert trial.user_attrs == {"suggested_at": 1.5}
    assert trial.datetime_start is not None
    assert trial.datetime_complete is None


def test_numbers_count_all_trials_in_order(backend: Backend) -> None:
    store = backend.open()
    numbers = [
        store.open_trial(PARAMS, {}),
        store.record_infeasible(PARAMS, [Violation("size_limits", "too large", 0.5)]),
        store.open_trial({**PARAMS, "train.batch_size": 64}, {}),
    ]
    assert numbers == [0, 1, 2]
    assert [trial.number for trial in backend.load().trials()] == numbers


def test_reports_are_kept_by_epoch_and_seen_at_once(backend: Backend) -> None:
    store, reader = backend.open(), backend.load()
    number = store.open_trial(PARAMS, {})
    store.report(number, 1, 0.5)
    assert reader.trial(number).intermediate_values == {1: 0.5}
    store.report(number, 2, 0.75)
    assert reader.trial(number).intermediate_values == {1: 0.5, 2: 0.75}


def test_attributes_of_an_open_trial_can_be_set_and_replaced(backend: Backend) -> None:
    store = backend.open()
    number = store.open_trial(PARAMS, {})
    store.set_attributes(number, {"checkpoint": "/a", "retries": 1})
    store.set_attributes(number, {"checkpoint": "/b"})
    assert backend.load().trial(number).user_attrs == {"checkpoint": "/b", "retries": 1}


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.COMPLETE, TrialState.COMPLETE),
        (Outcome.STOPPED, TrialState.PRUNED),
        (Outcome.OOM, TrialState.PRUNED),
        (Outcome.FAILED, TrialState.FAIL),
    ],
)
def test_every_outcome_is_told_to_optuna_as_its_state(backend: Backend, outcome: Outcome, state: TrialState) -> None:
    store = backend.open()
    number = store.open_trial(PARAMS, {"suggested_at": 1.5})
    store.report(number, 1, 0.5)
    store.close_trial(
        number,
        outcome,
        value=0.5 if outcome is Outcome.COMPLETE else None,
        reason="why",
        attributes={"peak_gib": 1.25, "micro_batch": None, "metrics": {"auc": 0.5}},
        constraints={"memory": 0.25} if outcome is Outcome.OOM else None,
    )
    trial = backend.load().trial(number)
    assert trial.state == state
    assert trial.datetime_complete is not None
    assert trial.user_attrs == {
        "suggested_at": 1.5,
        "peak_gib": 1.25,
        "micro_batch": None,
        "metrics": {"auc": 0.5},
        "outcome": outcome.value,
        "reason": "why",
    }
    assert trial.constraints == ({"memory": 0.25} if outcome is Outcome.OOM else {})
    assert trial.intermediate_values == {1: 0.5}
    if outcome is Outcome.COMPLETE:
        assert trial.value == 0.5


def test_a_failed_trial_without_any_report_can_be_closed(backend: Backend) -> None:
    store = backend.open()
    number = store.open_trial(PARAMS, {})
    traceback = "Traceback …\n" + "x" * 20_000
    store.close_trial(number, Outcome.FAILED, attributes={"error_traceback": traceback})
    assert backend.load().trial(number).user_attrs["error_traceback"] == traceback


def test_a_rejected_sample_is_recorded_with_the_excess_of_every_rule(backend: Backend) -> None:
    store = backend.open()
    found = [
        Violation("size_limits", "batch 48 > 16", 2.0),
        Violation("memory", "needs 30 GiB", 0.25),
        Violation("size_limits", "batch 48 > 32", 0.5),
    ]
    number = store.record_infeasible(PARAMS, found)
    trial = backend.load().trial(number)
    assert trial.state == TrialState.PRUNED
    assert trial.params == PARAMS
    assert trial.user_attrs == {"outcome": "infeasible", "reason": "batch 48 > 16; needs 30 GiB; batch 48 > 32"}
    assert trial.constraints == {"size_limits": 2.0, "memory": 0.25}
    assert trial.intermediate_values == {}


@pytest.mark.parametrize(
    ("outcome", "value"),
    [
        (Outcome.COMPLETE, None),
        (Outcome.COMPLETE, float("nan")),
        (Outcome.STOPPED, 0.5),
        (Outcome.OOM, 0.5),
        (Outcome.FAILED, float("nan")),
    ],
)
def test_a_value_goes_with_complete_and_with_nothing_else(
    backend: Backend, outcome: Outcome, value: float | None
) -> None:
    store = backend.open()
    number = store.open_trial(PARAMS, {})
    with pytest.raises(ValueError, match=str(number)):
        store.close_trial(number, outcome, value=value)
    trial = backend.load().trial(number)
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs == {}, "the trial is as it was"


def test_a_trial_is_told_once(backend: Backend) -> None:
    store = backend.open()
    number = store.open_trial(PARAMS, {})
    store.close_trial(number, Outcome.COMPLETE, value=0.5)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        store.close_trial(number, Outcome.FAILED)
    trial = backend.load().trial(number)
    assert (trial.state, trial.value, trial.user_attrs["outcome"]) == (TrialState.COMPLETE, 0.5, "complete")


def test_parameters_outside_the_space_cannot_be_recorded(backend: Backend) -> None:
    store = backend.open()
    with pytest.raises(ValueError, match="bert-huge"):
        store.open_trial({**PARAMS, "model.name": "bert-huge"}, {})
    assert backend.load().trials() == []


def test_an_open_trial_is_found_again_and_goes_on_under_its_number(backend: Backend) -> None:
    first = backend.open()
    first.open_trial(PARAMS, {})
    number = first.open_trial({**PARAMS, "train.batch_size": 24}, {"checkpoint": "/c"})
    first.report(number, 1, 0.5)
    second = backend.open()
    second.report(number, 2, 0.75)
    second.close_trial(number, Outcome.COMPLETE, value=0.75)
    trial = backend.load().trial(number)
    assert trial.params["train.batch_size"] == 24
    assert trial.intermediate_values == {1: 0.5, 2: 0.75}
    assert trial.user_attrs["checkpoint"] == "/c"


def test_a_study_that_is_not_there_cannot_be_loaded(backend: Backend) -> None:
    with pytest.raises(UserError, match=r"test: no study.*run headroom search first"):
        backend.load()
    backend.open()
    with pytest.raises(UserError, match=r"other: no study of that name.*run headroom search first"):
        backend.load("other")


def test_two_studies_may_share_a_database(empty_database: Path, tmp_path: Path) -> None:
    backend = Backend(tmp_path, f"sqlite:///{shutil.copy(empty_database, tmp_path / 'two.db')}")
    backend.open(name="a").open_trial(PARAMS, {})
    other = backend.open(replace(RECORD, task="evidence"), name="b")
    assert other.trials() == []
    assert other.open_trial(PARAMS, {}) == 0


def test_a_study_of_someone_else_is_neither_shown_nor_written_to(empty_database: Path, tmp_path: Path) -> None:
    backend = Backend(tmp_path, f"sqlite:///{shutil.copy(empty_database, tmp_path / 'theirs.db')}")
    theirs = optuna.create_study(study_name="test", storage=backend.url)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(UserError, match="test: no study of that name"):
        backend.load()
    with pytest.raises(UserError, match=r"study\.name: .*set another study\.name"):
        backend.open()
    assert theirs.user_attrs == {}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({}, r"its direction is minimize, and macro_f1 \(max\) asks for maximize"),
        ({"directions": ["maximize", "minimize"]}, "its direction is maximize, minimize, and"),
    ],
)
def test_a_study_made_beforehand_is_refused_by_its_direction(
    made: dict[str, Any], expected: str, empty_database: Path, tmp_path: Path
) -> None:
    backend = Backend(tmp_path, f"sqlite:///{shutil.copy(empty_database, tmp_path / 'theirs.db')}")
    theirs = optuna.create_study(study_name="test", storage=backend.url, **made)
    for refused in (backend.open, lambda: check_name(backend.run_dir, "test", backend.url, RECORD)):
        with pytest.raises(UserError, match=rf"study\.name: test is in the storage already: {expected}"):
            refused()
    assert theirs.user_attrs == {}


def test_attributes_of_another_program_in_an_empty_study_stay(empty_database: Path, tmp_path: Path) -> None:
    backend = Backend(tmp_path, f"sqlite:///{shutil.copy(empty_database, tmp_path / 'theirs.db')}")
    theirs = optuna.create_study(study_name="test", storage=backend.url, direction="maximize")
    theirs.set_user_attr("owner", "ann")
    with pytest.raises(UserError, match=r"attributes of another program \(owner\)"):
        backend.open()
    assert theirs.user_attrs == {"owner": "ann"}


def test_values_that_another_program_named_are_not_named_anew(empty_database: Path, tmp_path: Path) -> None:
    backend = Backend(tmp_path, f"sqlite:///{shutil.copy(empty_database, tmp_path / 'theirs.db')}")
    theirs = optuna.create_study(study_name="test", storage=backend.url, direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        theirs.set_metric_names(["accuracy"])
    with pytest.raises(UserError, match="its values are named accuracy"):
        backend.open()
    assert theirs.metric_names == ["accuracy"]


def test_a_study_whose_direction_was_changed_is_not_resumed(backend: Backend) -> None:
    store = backend.open()
    record = {**RECORD.as_dict(), "mode": "min"}
    store.study.set_user_attr("headroom", record)
    with pytest.raises(UserError, match=r"its direction is maximize, and macro_f1 \(min\) asks for minimize"):
        backend.open()


@pytest.mark.parametrize("statement", [MLFLOW_TABLES, "CREATE TABLE notes (id INTEGER)"])
def test_a_database_of_another_program_is_refused_as_it_is(statement: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(statement)
    connection.close()
    before = file.read_bytes()
    whose = "MLflow" if statement == MLFLOW_TABLES else "another program"
    with pytest.raises(UserError, match=rf"study\.storage: sqlite:///.* holds the tables of {whose}; give the study"):
        Backend(tmp_path, sqlite_url(file)).open()
    assert file.read_bytes() == before


def test_a_study_whose_first_write_was_cut_short_is_opened_as_new(backend: Backend) -> None:
    backend.open()
    if backend.url is None:
        file = backend.run_dir / JOURNAL_FILE
        file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    else:
        optuna.delete_study(study_name="test", storage=backend.url)
        optuna.create_study(study_name="test", storage=backend.url, direction="maximize")
    assert backend.open().record == RECORD


@pytest.mark.parametrize("content", [b"garbage\n", b"\x00" * 100 + b"\n", b"[]\n", b"{}\n"])
def test_a_journal_that_is_none_is_refused_by_its_path(content: bytes, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(content)
    for opened in (Backend(tmp_path, None).open, Backend(tmp_path, None).load):
        with pytest.raises(UserError, match=JOURNAL_FILE) as caught:
            opened()
        assert len(str(caught.value).splitlines()) == 1


SECRET_URLS = [
    "postgresql://user:secret@localhost:1/x",
    "postgresql://user:se@cret-secret@localhost:1/x",
    "mysql+pymysql://user:secret@localhost:1/x",
    "postgresql+nodriver://user:secret@localhost:1/x",
    "postgresql://user:secret@localhost:noport/x",
    "nothing-known://user:secret@localhost:1/x",
]


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("way", ["open", "load"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(url: str, way: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        getattr(Backend(tmp_path, url), way)()
    message = str(caught.value)
    assert message.startswith("study.storage: ")
    assert "://user:***@localhost" in message
    assert "cret" not in message
    assert "null for a journal file" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("content", [b"no database" * 100, None])
def test_a_file_that_is_no_database_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "missing" / "study.db"
    if content:
        file.parent.mkdir()
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"study\.storage: sqlite:///.*cannot be opened"):
        Backend(tmp_path, f"sqlite:///{file}").open()


def test_only_one_search_holds_a_run_directory(tmp_path: Path) -> None:
    assert not search_is_running(tmp_path), "nor is there a file of it yet"
    with search_lock(tmp_path):
        assert search_is_running(tmp_path)
        with (
            pytest.raises(UserError, match=r"study\.name: a search is running.*wait.*study\.name"),
            search_lock(tmp_path),
        ):
            pass
        assert search_is_running(tmp_path), "who is refused takes nothing away"
    assert not search_is_running(tmp_path)
    with search_lock(tmp_path):
        pass


def test_a_failed_search_lets_go_of_its_run_directory(tmp_path: Path) -> None:
    def fail() -> None:
        with search_lock(tmp_path):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not search_is_running(tmp_path)


def test_a_killed_search_lets_go_of_its_run_directory(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from tune_app.study.store import search_lock
with search_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert search_is_running(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert not search_is_running(tmp_path)
    with search_lock(tmp_path):
        pass


def test_a_look_at_a_study_keeps_no_search_from_starting(tmp_path: Path) -> None:
    with (tmp_path / LOCK_FILE).open("w") as file:
        # search_is_running holds this lock for an instant; the test holds it a little longer.
        fcntl.flock(file, fcntl.LOCK_SH)
        release = threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN))
        release.start()
        try:
            with search_lock(tmp_path):
                assert search_is_running(tmp_path)
        finally:
            release.join()


def test_looking_for_a_study_makes_no_file(tmp_path: Path) -> None:
    for url in (None, f"sqlite:///{tmp_path}/study.db", f"sqlite:///{tmp_path}/missing/study.db"):
        with pytest.raises(UserError, match="run headroom search first"):
            load_study(tmp_path, "test", url)
        assert study_names(tmp_path, url) == []
    assert list(tmp_path.iterdir()) == []
