"""MLflow mirror of the study: each ended trial once, and no failure of its server disturbs a trial."""

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from optuna.storages import RDBStorage
from optuna.trial import create_trial

from search_spaces.rules import Violation
from search_spaces.space import parse_space
from tune_app.config import parse_config
from tune_app.errors import UserError
from tune_app.outcomes import CARRIED_ATTRIBUTE, Outcome, metrics_attribute
from tune_app.study.record import StudyRecord
from tune_app.study.run_dir import check_study_dir, tracking_uri
from tune_app.study.store import Parent, StudyStore, open_study
from tune_app.tracking import MlflowTracking, NoTracking, flat

CONFIG = {"study.name": "test", "train.epochs": 3, "search.sampler": None}


@pytest.fixture
def uri(mlflow_database: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(mlflow_database, tmp_path / 'mlflow.db')}"


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    space = parse_space({"optim.lr": {"choices": [0.1, 0.2]}})
    return open_study(tmp_path, "test", None, StudyRecord(space, "criteria", "macro_f1", "max", "data"))


def end(store: StudyStore, outcome: Outcome, **attributes: Any) -> int:
    params: dict[str, Any] = {"optim.lr": 0.1}
    if outcome is Outcome.INFEASIBLE:
        return store.record_infeasible(params, [Violation("size_limits", "too large", 0.5)])
    number = store.open_trial(params, {})
    store.report(number, 1, 0.25)
    store.report(number, 2, 0.5)
    value = 0.5 if outcome is Outcome.COMPLETE else None
    store.close_trial(number, outcome, value=value, reason="why", attributes=attributes)
    return number


def runs(uri: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the parent runs, and the child runs by name."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("test")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    parents = [run for run in found if run not in children]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {run.info.run_id for run in parents}
    assert len({run.info.run_name for run in children}) == len(children)
    return parents, {run.info.run_name: run for run in children}


def test_one_parent_with_the_counts_and_one_child_per_launched_trial(store: StudyStore, uri: str) -> None:
    tracking = MlflowTracking(store, uri, CONFIG)
    outcomes = [*Outcome, Outcome.COMPLETE, Outcome.INFEASIBLE]
    for outcome in outcomes:
        tracking.trial_closed(store.trial(end(store, outcome)))
    assert tracking.flush() == []
    (parent,), children = runs(uri)
    launched = [outcome.value for outcome in outcomes if outcome is not Outcome.INFEASIBLE]
    assert Counter(run.data.tags["outcome"] for run in children.values()) == Counter(launched)
    metrics = parent.data.metrics
    assert {name: metrics[f"trials_{name}"] for name in Outcome} == {name: outcomes.count(name) for name in Outcome}
    assert metrics["completed_trials"] == 2
    assert metrics["pruned_trials"] == 4
    assert metrics["failed_trials"] == 1
    assert metrics["oom_trials"] == 1
    assert parent.data.params == {"study.name": "test", "train.epochs": "3", "search.sampler": "None"}
    assert parent.info.status == "FINISHED"


def test_a_child_shows_what_the_study_holds_of_its_trial(store: StudyStore, uri: str) -> None:
    number = end(
        store,
        Outcome.COMPLETE,
        metrics={"auc": 0.75, "macro_f1": 0.5},
        peak_gib=1.5,
        recoveries=0,
        **{metrics_attribute("epoch", 1): {"auc": 0.7}, metrics_attribute("epoch", 2): {"auc": 0.75}},
        micro_batch=None,
        device="cpu",
        tf32=True,
    )
    failed = end(store, Outcome.FAILED, error_traceback="x" * 20_000, error_type="KeyError")
    assert MlflowTracking(store, uri, CONFIG).flush() == []
    _, children = runs(uri)
    run = children[f"trial-{number:05d}"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"optim.lr": "0.1"}
    assert run.data.metrics["value"] == 0.5
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "auc")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.7), (2, 0.75)]
    assert (run.data.metrics["best_auc"], run.data.metrics["peak_gib"], run.data.metrics["recoveries"]) == (
        0.75,
        1.5,
        0,
    )
    assert (run.data.tags["outcome"], run.data.tags["reason"], run.data.tags["device"]) == ("complete", "why", "cpu")
    trial = store.trial(number)
    assert trial.datetime_start is not None
    assert run.info.start_time == int(trial.datetime_start.timestamp() * 1000)
    broken = children[f"trial-{failed:05d}"]
    assert (broken.info.status, broken.data.tags["error_type"]) == ("FAILED", "KeyError")
    assert "value" not in broken.data.metrics


def test_the_values_of_every_epoch_are_written(store: StudyStore, uri: str) -> None:
    store.study.add_trial(
        create_trial(
            value=0.55,
            params={"optim.lr": 0.1},
            distributions=store.distributions,
            user_attrs={"outcome": "complete"},
            intermediate_values={epoch: epoch / 2000 for epoch in range(1, 1101)},
        )
    )
    assert MlflowTracking(store, uri, CONFIG).flush() == []
    _, children = runs(uri)
    client = MlflowClient(tracking_uri=uri)
    run_id = children["trial-00000"].info.run_id
    names = [name for name, value in children["trial-00000"].data.metrics.items() if value == 0.55 and name != "value"]
    assert len(names) == 1
    history = client.get_metric_history(run_id, names[0])
    assert sorted((point.step, point.value) for point in history) == [(n, n / 2000) for n in range(1, 1101)]


def test_children_are_written_once_however_often_a_search_starts(store: StudyStore, uri: str) -> None:
    end(store, Outcome.COMPLETE)
    open_number = store.open_trial({"optim.lr": 0.2}, {})
    for _ in range(2):
        assert MlflowTracking(store, uri, CONFIG).flush() == []
    assert list(runs(uri)[1]) == ["trial-00000"]
    store.close_trial(open_number, Outcome.STOPPED)
    tracking = MlflowTracking(store, uri, CONFIG)
    # The study holds both trials already, and the test reports them once more.
    for trial in store.trials():
        tracking.trial_closed(trial)
    assert tracking.flush() == []
    parents, children = runs(uri)
    assert len(parents) == 1
    assert sorted(children) == ["trial-00000", "trial-00001"]
    assert parents[0].data.metrics["pruned_trials"] == 1


def test_a_child_that_was_cut_short_is_written_again(store: StudyStore, uri: str) -> None:
    assert MlflowTracking(store, uri, CONFIG).flush() == []
    client = MlflowClient(tracking_uri=uri)
    parent = runs(uri)[0][0]
    client.create_run(parent.info.experiment_id, run_name="torn", tags={"mlflow.parentRunId": parent.info.run_id})
    end(store, Outcome.COMPLETE)
    assert MlflowTracking(store, uri, CONFIG).flush() == []
    children = runs(uri)[1]
    assert children["trial-00000"].data.metrics["value"] == 0.5
    assert "torn" not in children


def test_long_settings_are_cut_to_what_mlflow_takes(store: StudyStore, uri: str) -> None:
    config = {f"setting.{number}": "x" * 10_000 for number in range(150)}
    assert MlflowTracking(store, uri, config).flush() == []
    params = runs(uri)[0][0].data.params
    assert len(params) == 150
    assert {len(value) for value in params.values()} == {500}


def test_a_store_that_cannot_be_opened_is_a_warning(store: StudyStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tracking = MlflowTracking(store, f"sqlite:///{tmp_path}/file/mlflow.db", CONFIG)
    tracking.trial_closed(store.trial(end(store, Outcome.COMPLETE)))
    (warning,) = tracking.flush()
    assert warning.startswith("MLflow (sqlite:///")
    assert len(warning.splitlines()) == 1


def test_a_server_that_cannot_be_reached_is_a_warning_and_no_long_wait(store: StudyStore) -> None:
    began = time.monotonic()
    # Nothing listens on port 9. MLflow's own message drops the slash at the end.
    tracking = MlflowTracking(store, "http://user:secret@127.0.0.1:9/", CONFIG)
    tracking.trial_closed(store.trial(end(store, Outcome.COMPLETE)))
    (warning,) = tracking.flush()
    assert time.monotonic() - began < 15
    assert warning.startswith("MLflow (http://user:***@127.0.0.1:9/): ")
    assert "secret" not in warning
    assert len(warning.splitlines()) == 1


def test_tracking_that_is_switched_off_does_nothing(store: StudyStore) -> None:
    tracking = NoTracking()
    tracking.trial_closed(store.trial(end(store, Outcome.COMPLETE)))
    assert tracking.flush() == []


def test_nested_settings_get_dotted_names() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None, "f": {}}
    assert flat(nested) == {"a.b": 1, "a.c.d": [1, 2], "e": None, "f": {}}


def test_scores_by_criterion_are_an_artifact_of_the_trial(store: StudyStore, uri: str, tmp_path: Path) -> None:
    scores = {"trouble with sleep": {"rows": 4.0, "macro_f1": 0.5}}
    tracking = MlflowTracking(store, uri, CONFIG, tmp_path / "artifacts")
    end(store, Outcome.COMPLETE, by_criterion=scores)
    assert tracking.flush() == []
    _, children = runs(uri)
    (run,) = children.values()
    client = MlflowClient(tracking_uri=uri)
    assert [found.path for found in client.list_artifacts(run.info.run_id)] == ["by_criterion.json"]
    (file,) = (tmp_path / "artifacts").rglob("by_criterion.json")
    assert json.loads(file.read_text()) == scores


def test_another_study_of_the_name_has_runs_of_its_own(store: StudyStore, uri: str, tmp_path: Path) -> None:
    end(store, Outcome.COMPLETE)
    for study in (store, store):
        assert MlflowTracking(study, uri, CONFIG).flush() == [], "resumed, it goes on in the same run"
    (tmp_path / "later").mkdir()
    later = open_study(tmp_path / "later", "test", None, store.record)
    end(later, Outcome.FAILED)
    assert MlflowTracking(later, uri, CONFIG).flush() == []
    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("test").experiment_id], order_by=["start_time"])
    parents = {run.info.run_id for run in found if "mlflow.parentRunId" not in run.data.tags}
    children = {run.data.tags["mlflow.parentRunId"]: run for run in found if "mlflow.parentRunId" in run.data.tags}
    assert len(parents) == 2
    assert set(children) == parents
    assert sorted(run.data.tags["outcome"] for run in children.values()) == ["complete", "failed"]


def test_carried_over_trials_have_runs_only_in_their_own_study(uri: str, tmp_path: Path) -> None:
    space = parse_space({"optim.lr": {"choices": [0.1, 0.2]}})
    record = StudyRecord(space, "criteria", "macro_f1", "max", "data")
    forked = open_study(tmp_path, "test", None, record, parent=Parent("before", str(tmp_path), None))
    carried = create_trial(
        value=0.75,
        params={"optim.lr": 0.2},
        distributions=forked.distributions,
        user_attrs={"outcome": "complete", CARRIED_ATTRIBUTE: {"study": "before", "trial": 7}},
    )
    forked.carry_over([carried])
    number = end(forked, Outcome.COMPLETE)
    assert MlflowTracking(forked, uri, CONFIG).flush() == []
    (parent,), children = runs(uri)
    assert list(children) == [f"trial-{number:05d}"]
    assert parent.data.metrics["trials_complete"] == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"study": {"storage": "sqlite:///one.db"}, "tracking": {"uri": "sqlite:///../here/one.db"}},
            "study.storage: ",
        ),
        ({"study": {"storage": "sqlite:///mlflow.db"}}, "study.storage: "),
        ({"tracking": {"uri": "sqlite:///optuna.db"}}, "tracking.uri: .*optuna.db holds the tables of Optuna; give"),
    ],
)
def test_mlflow_shares_no_database_with_optuna(
    given: dict[str, Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    RDBStorage("sqlite:///optuna.db")
    raw = {"data": {"path": "demo"}, **given, "study": {"name": "x", "dir": ".", **given.get("study", {})}}
    with pytest.raises(UserError, match=expected):
        check_study_dir(parse_config(raw))
    assert [file.name for file in folder.iterdir()] == ["optuna.db"], "nothing was opened for writing"
    check_study_dir(parse_config({**raw, "tracking": {"enabled": False}}))


def test_mlflow_writes_to_a_folder_whose_name_looks_quoted(mlflow_database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "feature%2Fsearch 100% ü#?"
    folder.mkdir()
    shutil.copy(mlflow_database, folder / "mlflow.db")
    config = parse_config({"study": {"name": "test", "dir": str(folder)}, "data": {"path": "demo"}})
    space = parse_space({"optim.lr": {"choices": [0.1, 0.2]}})
    run_dir = folder / "test"
    run_dir.mkdir()
    store = open_study(run_dir, "test", None, StudyRecord(space, "criteria", "macro_f1", "max", "data"))
    end(store, Outcome.COMPLETE, by_criterion={"c": {"f1": 1.0}})
    tracking = MlflowTracking(store, tracking_uri(config), CONFIG, run_dir / "artifacts")
    assert tracking.flush() == []
    _, children = runs(tracking_uri(config))
    assert len(children) == 1
    assert list(run_dir.rglob("by_criterion.json"))
    assert [found.name for found in tmp_path.iterdir()] == [folder.name]


def test_the_page_finds_what_kind_of_experiment_it_shows_and_need_not_write_it(store: StudyStore, uri: str) -> None:
    client = MlflowClient(tracking_uri=uri)
    # An experiment of a version that did not write its kind.
    client.create_experiment("test")
    assert MlflowTracking(store, uri, CONFIG).flush() == []
    assert client.get_experiment_by_name("test").tags["mlflow.experimentKind"] == "custom_model_development"
