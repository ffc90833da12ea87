"""MLflow mirror of a study, which the driver alone writes, in batches and in a thread of its own.

The study is the record; MLflow mirrors it. The thread writes ended trials. If a server fails, the search warns, and
writes the missing trials when it starts again.
"""

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from optuna.trial import FrozenTrial

from tune_app.config import RunConfig
from tune_app.databases import sqlite_file
from tune_app.errors import first_line, without_password, without_password_of
from tune_app.objectives import values_of
from tune_app.outcomes import (
    BREAKDOWN_ATTRIBUTES,
    RECOMMENDED_ATTRIBUTE,
    Outcome,
    carried_from,
    step_of_metrics,
)
from tune_app.study.reporting import is_recommended, outcome_of, was_launched
from tune_app.study.run_dir import ARTIFACTS, shown_config, tracking_uri
from tune_app.study.store import StudyStore

# Without this tag MLflow's page guesses it and saves the guess, which a read-only page cannot do.
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
_PARENT_TAG = "headroom.study"
_ID_TAG = "headroom.id"
_NUMBER_TAG = "headroom.trial"
_LONGEST_PARAM = 500
_LONGEST_TAG = 5000
# Time for which a flush waits for a server that accepts nothing.
_STALLED_S = 30.0
# MLflow retries for minutes by default. The next start writes missing trials anyway.
_ENVIRONMENT = {
    # MLflow's messages, on the creation of tables for instance, do not concern a person. It sets its level at import.
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Tracking(Protocol):
    """Mirror of a study for people to look at."""

    def trial_closed(self, trial: FrozenTrial) -> None: ...
    def flush(self) -> list[str]:
        """Write all waiting trials, and return the problems since the last flush, one line each."""
        ...


class NoTracking:
    """Null object for ``tracking.enabled: false``."""

    def trial_closed(self, trial: FrozenTrial) -> None: ...
    def flush(self) -> list[str]:
        return []


class MlflowTracking:
    """Mirror with one parent run per study and one child run per launched trial. Existing child runs are left alone.

    Args:
        uri: URI of the MLflow store or server.
        artifacts: folder for the artifacts of a local store; a server has its own.
        config: resolved configuration, flat, for the parent's parameters.
    """

    def __init__(self, store: StudyStore, uri: str, config: Mapping[str, Any], artifacts: Path | None = None) -> None:
        self._store = store
        self._uri = uri
        self._artifacts = artifacts
        self._config = config
        self._waiting: queue.Queue[FrozenTrial | None] = queue.Queue()
        self._problems: list[str] = []
        self._last_written = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def trial_closed(self, trial: FrozenTrial) -> None:
        if was_launched(trial):
            self._waiting.put(trial)

    def flush(self) -> list[str]:
        self._waiting.put(None)
        began = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - max(began, self._last_written) < _STALLED_S:
            self._thread.join(0.1)
        if self._thread.is_alive():
            self._problems.append(f"accepted nothing for {_STALLED_S:.0f} s; the rest is written at the next start")
        return [f"MLflow ({without_password(self._uri)}): {problem}" for problem in self._problems]

    def _work(self) -> None:
        quiet_mlflow()
        try:
            objectives = [objective.name for objective in self._store.record.objectives]
            mirror = _Mirror.open(self._store, self._uri, objectives, self._config, self._artifacts)
            for trial in self._store.trials():
                self._write(mirror, trial)
            while (waiting := self._waiting.get()) is not None:
                self._write(mirror, waiting)
            mirror.finish(self._store.trials())
        except Exception as error:
            # No error of a tracking server may affect a trial. It is reported at the end; the next start catches up.
            text = without_password_of(self._uri, first_line(error))
            self._problems.append(f"{type(error).__name__}: {text}")

    def _write(self, mirror: "_Mirror", trial: FrozenTrial) -> None:
        mirror.write(trial)
        self._last_written = time.monotonic()


class _Mirror:
    """MLflow's side of the mirror: the parent run, and the trials that have a child run."""

    def __init__(
        self, client: Any, experiment_id: str, parent_id: str, objectives: Sequence[str], written: set[int]
    ) -> None:
        self._client = client
        self._objectives = objectives
        self._experiment_id = experiment_id
        self._parent_id = parent_id
        self._written = written

    @classmethod
    def open(
        cls, store: StudyStore, uri: str, objectives: Sequence[str], config: Mapping[str, Any], artifacts: Path | None
    ) -> Self:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        study = store.name
        # Tag the run with the id, since an earlier study of the same name keeps its runs.
        tags = {_PARENT_TAG: study, **({_ID_TAG: store.id} if store.id else {})}
        file = sqlite_file(uri)
        if file is not None:
            _write_without_waiting(file)
        client = MlflowClient(tracking_uri=uri)
        experiment_id = open_experiment(client, study, uri, artifacts)
        parents = client.search_runs([experiment_id], _with_tags(tags), max_results=1)
        if parents:
            parent_id = parents[0].info.run_id
            client.update_run(parent_id, status="RUNNING")
        else:
            parent = client.create_run(experiment_id, run_name=study, tags=tags)
            parent_id = parent.info.run_id
            params = [Param(name, _param(value)) for name, value in config.items()]
            for start in range(0, len(params), 100):
                client.log_batch(parent_id, params=params[start : start + 100])
        return cls(client, experiment_id, parent_id, objectives, _children(client, experiment_id, parent_id))

    def write(self, trial: FrozenTrial) -> None:
        """Write an ended, launched trial as a child run, in one batch."""
        outcome = outcome_of(trial)
        if outcome is None or not was_launched(trial) or trial.number in self._written:
            return
        from mlflow.entities import Metric, Param

        started, ended = _milliseconds(trial.datetime_start), _milliseconds(trial.datetime_complete)
        texts = {key: value[:_LONGEST_TAG] for key, value in trial.user_attrs.items() if isinstance(value, str)}
        texts |= {RECOMMENDED_ATTRIBUTE: "true"} if is_recommended(trial) else {}
        run = self._client.create_run(
            self._experiment_id,
            start_time=started,
            run_name=f"trial-{trial.number:05d}",
            tags={**texts, "mlflow.parentRunId": self._parent_id, _NUMBER_TAG: str(trial.number)},
        )
        metrics = [
            Metric(name, value, ended, step)
            for step, measured in _measured(trial, self._objectives[0]).items()
            for name, value in measured.items()
        ]
        numbers = {f"best_{name}": value for name, value in trial.user_attrs.get("metrics", {}).items()}
        numbers |= {name: value for name, value in trial.user_attrs.items() if _is_number(value)}
        values = dict(zip(self._objectives, values_of(trial), strict=False))
        if values:
            numbers["value"] = values[self._objectives[0]]
        if len(values) > 1:
            numbers |= {f"value/{name}": value for name, value in values.items()}
        metrics += [Metric(name, float(value), ended, 0) for name, value in numbers.items()]
        params = [Param(key, _param(value)) for key, value in trial.params.items()]
        self._client.log_batch(run.info.run_id, metrics=metrics, params=params)
        for name in BREAKDOWN_ATTRIBUTES:
            if breakdown := trial.user_attrs.get(name):
                self._client.log_dict(run.info.run_id, breakdown, f"{name}.json")
        status = "FAILED" if outcome is Outcome.FAILED else "FINISHED"
        self._client.set_terminated(run.info.run_id, status, ended)
        self._written.add(trial.number)

    def finish(self, trials: list[FrozenTrial]) -> None:
        """Write the counts of outcomes to the parent run, under headroom's names and the users' own."""
        from mlflow.entities import Metric

        outcomes = [outcome_of(trial) for trial in trials if carried_from(trial) is None]
        counts = {outcome: outcomes.count(outcome) for outcome in Outcome}
        named = {
            **{f"trials_{outcome.value}": count for outcome, count in counts.items()},
            "completed_trials": counts[Outcome.COMPLETE],
            "pruned_trials": counts[Outcome.STOPPED] + counts[Outcome.OOM] + counts[Outcome.INFEASIBLE],
            "failed_trials": counts[Outcome.FAILED],
            "oom_trials": counts[Outcome.OOM],
        }
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._parent_id, metrics=[Metric(name, float(count), now, 0) for name, count in named.items()]
        )
        self._client.set_terminated(self._parent_id, "FINISHED")


def open_experiment(client: Any, name: str, uri: str, artifacts: Path | None) -> str:
    """Return the id of an experiment; create it if it is missing.

    Args:
        artifacts: folder for the artifacts of a local store; a server has its own.
    """
    experiment = client.get_experiment_by_name(name)
    # By default, a local store would put artifacts below the working directory.
    place = artifacts.absolute().as_uri() if artifacts and sqlite_file(uri) is not None else None
    experiment_id: str = experiment.experiment_id if experiment else client.create_experiment(name, place)
    if experiment is None or _KIND_TAG not in experiment.tags:
        client.set_experiment_tag(experiment_id, _KIND_TAG, _KIND)
    return experiment_id


def quiet_mlflow() -> None:
    """Set MLflow's environment variables that are not set, before it is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _with_tags(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())


def _measured(trial: FrozenTrial, objective: str) -> dict[int, dict[str, float]]:
    """Return a trial's metrics by step, with at least the objective."""
    measured = {step: {objective: value} for step, value in trial.intermediate_values.items()}
    for name, value in trial.user_attrs.items():
        step = step_of_metrics(name)
        if step is not None:
            measured.setdefault(step, {}).update(value)
    return dict(sorted(measured.items()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        settings.update(flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value})
    return settings


def _children(client: Any, experiment_id: str, parent_id: str) -> set[int]:
    """Return the numbers of the trials with a complete child run, and delete incomplete child runs."""
    numbers: set[int] = set()
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.mlflow.parentRunId = '{parent_id}'", max_results=1000, page_token=token
        )
        for run in page:
            if run.info.status == "RUNNING":
                client.delete_run(run.info.run_id)
            else:
                numbers.add(int(run.data.tags[_NUMBER_TAG]))
        token = page.token
        if not token:
            return numbers


def _write_without_waiting(file: str) -> None:
    """Prevent SQLite from waiting for the disk at each of MLflow's half a dozen commits per trial.

    A write-ahead log keeps the file consistent at any moment. The study still holds any data that a power failure
    destroys, and the next start writes it again.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def set_pragmas(connection: Any, record: Any) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        files = [row[2] for row in connection.execute("PRAGMA database_list")]
        if file in files:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

    event.listen(Engine, "connect", set_pragmas)


def _param(value: object) -> str:
    return str(value)[:_LONGEST_PARAM]


def _milliseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1000) if moment is not None else int(time.time() * 1000)


def open_tracking(config: RunConfig, store: StudyStore) -> Tracking:
    """Open a study's mirror in MLflow and start updating it; return a null object if tracking is disabled."""
    if not config.tracking.enabled:
        return NoTracking()
    artifacts = Path(config.run_dir) / ARTIFACTS
    return MlflowTracking(store, tracking_uri(config), flat(shown_config(config)), artifacts)
