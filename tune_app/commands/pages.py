"""Pages of Optuna Dashboard and MLflow as applications in this process, each behind a guard.

They end with the process, however it ends, and are reachable only through their guard.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages import JournalStorage, RDBStorage
from werkzeug.test import Client

from tune_app.commands.guard import Guard
from tune_app.errors import UserError, first_line, without_password_of
from tune_app.study.journal import JournalFile
from tune_app.study.store import JOURNAL_FILE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Say = Callable[[str], None]

_MLFLOW_READS = (
    r"/graphql"
    r"|/ajax-api/[23]\.0/mlflow/(experiments|runs|logged-models|traces|datasets|issues)/search"
    r"|/ajax-api/2\.0/mlflow/experiments/search-datasets"
    r"|/ajax-api/3\.0/mlflow/traces/(batchGetInfos|calculate-filter-correlation|metrics)"
)
"""POST requests of MLflow 3.17's page that only read."""
_MLFLOW_HIDDEN = r".*/(gateway|gateway-proxy|webhooks)(/.*)?"
"""Pages of MLflow unrelated to runs: keys of language models, and requests made in this machine's name."""

_MLFLOW_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def optuna_page(run_dir: Path, storage_url: str | None, study_name: str, say: Say) -> tuple[Guard, str]:
    """Return Optuna Dashboard on a study's storage, and the path of the study in it.

    Raises:
        UserError: Optuna Dashboard is not installed.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise _missing("optuna-dashboard") from None

    app = wsgi(
        JournalStorage(JournalFile(run_dir / JOURNAL_FILE))
        if storage_url is None
        else RDBStorage(storage_url, skip_compatibility_check=True, skip_table_creation=True)
    )
    ids = {
        summary["study_name"]: summary["study_id"] for summary in _json(app, "/api/studies").get("study_summaries", [])
    }
    path = f"/dashboard/studies/{ids[study_name]}" if study_name in ids else "/dashboard"
    return Guard("Optuna Dashboard", app, say=say), path


def mlflow_page(tracking_uri: str, study_name: str, say: Say) -> tuple[Guard, str]:
    """Return MLflow's page on a store, and the fragment of the study's runs in it.

    Raises:
        UserError: MLflow's server is not installed, or the store cannot be opened.
    """
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.server import app, handlers
    except ImportError:
        raise _missing("mlflow") from None

    # The guard reports failures; MLflow would print its tracebacks between the addresses.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    try:
        # Like ``mlflow server``, name a location for artifacts: by default MLflow creates one in the working directory.
        handlers.initialize_backend_stores(tracking_uri, default_artifact_root="mlflow-artifacts:/")
    except Exception as error:
        # Errors of SQLAlchemy, of drivers and of MLflow need the same remedy, and all may quote the URI.
        problem = without_password_of(tracking_uri, first_line(error))
        raise UserError(
            f"tracking.uri: {tracking_uri} cannot be opened ({type(error).__name__}: {problem}); fix that and run"
            " headroom dashboard again"
        ) from None
    experiment = _json(app, "/api/2.0/mlflow/experiments/get-by-name", experiment_name=study_name).get("experiment")
    fragment = f"/experiments/{experiment['experiment_id']}/runs" if experiment else ""
    return Guard("MLflow", app, readable=_MLFLOW_READS, hidden=_MLFLOW_HIDDEN, say=say), fragment


def _json(app: "WSGIApplication", path: str, **query: str) -> dict[str, Any]:
    """Return an application's JSON answer; empty if it is an error."""
    answer = Client(app).get(path, query_string=query)
    return dict(answer.get_json()) if answer.status_code == 200 else {}


def _missing(package: str) -> UserError:
    return UserError(f"{package}: is not installed; run: pip install {package}")
