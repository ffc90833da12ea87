"""Saved models in MLflow: logged with signature and example, and registered where the settings say so."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tune_app.config import RunConfig
from tune_app.errors import first_line, without_password, without_password_of
from tune_app.prediction.model import Model
from tune_app.study.run_dir import ARTIFACTS, tracking_uri
from tune_app.tracking import open_experiment, quiet_mlflow
from tune_app.version import VERSION

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo
    from mlflow.tracking import MlflowClient

# An example from the data would copy a part of it.
_EXAMPLES = {"text": "She sleeps badly, and nothing tastes of anything.", "criterion": "sleep problems"}
_TYPES = {str: "string", int: "long", float: "double"}


def log_model_folder(config: RunConfig, folder: Path) -> str | None:
    """Log a model folder to MLflow, and return a line on where it is or why it is not there.

    An error of MLflow never costs the model, which is saved by then. None if tracking is disabled.
    """
    if not config.tracking.enabled:
        return None
    uri = tracking_uri(config)
    quiet_mlflow()
    try:
        # MLflow keeps the active run for each thread: a run of the caller's stays as it is.
        with warnings.catch_warnings(), ThreadPoolExecutor(1, thread_name_prefix="mlflow") as thread:
            # MLflow warns of classes of its own when it is imported.
            warnings.simplefilter("ignore")
            logged = thread.submit(_logged, config, folder, uri).result()
    except Exception as error:
        text = without_password_of(uri, first_line(error))
        return f"note: not logged to MLflow ({without_password(uri)}): {type(error).__name__}: {text}"
    return f"logged to MLflow as {logged}"


def _logged(config: RunConfig, folder: Path, uri: str) -> str:
    import mlflow
    from mlflow.tracking import MlflowClient

    model = Model(folder, device="cpu", budget_gib=None, precision="auto")
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment_id = open_experiment(client, config.study.name, uri, Path(config.run_dir) / ARTIFACTS)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run(experiment_id=experiment_id, run_name=f"model {folder.name}"):
            logged = mlflow.pyfunc.log_model(
                name="model",
                loader_module="tune_app.prediction.served",
                data_path=str(folder),
                signature=_signature(model),
                input_example=_example(model),
                # Without them, MLflow would run the model in another process to find what it imports.
                pip_requirements=[f"headroom-tune=={VERSION}"],
            )
        if config.tracking.register is None:
            return str(logged.model_uri)
        return f"{logged.model_uri}, {_registered(client, config.tracking.register, logged)}"
    finally:
        mlflow.set_tracking_uri(before)


def _registered(client: "MlflowClient", name: str, logged: "ModelInfo") -> str:
    """Register a logged model as a new version of a name, and say which."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    # The function that logs and registers at once prints to the terminal.
    version = client.create_model_version(name, logged.model_uri, logged.run_id, model_id=logged.model_id)
    return f"version {version.version} of {name}"


def _example(model: Model) -> pd.DataFrame:
    """Return a row that the model can read."""
    cells = {role: [_EXAMPLES[role]] for role in model.reads}
    if model.known_criteria:
        cells["criterion"] = [model.known_criteria[0]]
    return pd.DataFrame({column: cells[role] for role, column in model.reads.items()})


def _signature(model: Model) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(
        Schema([ColSpec("string", column) for column in model.reads.values()]),
        Schema([ColSpec(_TYPES[kind], name, required=False) for name, kind in model.kinds.items()]),
    )
