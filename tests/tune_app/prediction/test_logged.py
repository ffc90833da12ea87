"""A saved model in MLflow answers as ``headroom predict`` does, and a failure of MLflow costs nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from trainables.data.demo import demo_rows
from trainables.data.model_inputs import ModelInputs
from tune_app import load_model
from tune_app.config import load_config
from tune_app.errors import UserError
from tune_app.prediction.logged import log_model_folder

ROWS = demo_rows().sample(12, random_state=0)[["text", "criterion"]]


def test_mlflow_gives_the_answers_of_the_folder(
    save_tiny_model: Callable[..., Path], plain_config: dict[str, Any], mlflow_database: Path, tmp_path: Path
) -> None:
    known = tuple(sorted(set(ROWS.criterion)))
    folder = save_tiny_model("share", labels=("0", "1"), inputs=ModelInputs(criteria=known))
    uri = f"sqlite:///{shutil.copy(mlflow_database, tmp_path / 'mlflow.db')}"
    config = load_config(
        plain_config, {"tracking.enabled": True, "tracking.uri": uri, "tracking.register": "sleep model"}
    )
    before = mlflow.get_tracking_uri()
    for version in (1, 2):
        line = log_model_folder(config, folder)
        assert line is not None
        assert line.startswith("logged to MLflow as models:/m-")
        assert line.endswith(f", version {version} of sleep model")
    assert mlflow.get_tracking_uri() == before
    mlflow.set_tracking_uri(uri)
    try:
        served = mlflow.pyfunc.load_model("models:/sleep model/2")
    finally:
        mlflow.set_tracking_uri(before)
    assert served.metadata.signature.inputs.input_names() == ["text", "criterion"]
    assert served.input_example.criterion.tolist() == [known[0]]
    predicted = load_model(folder).predict(ROWS)
    pd.testing.assert_frame_equal(served.predict(ROWS.assign(more=1)), predicted.drop(columns=["text", "criterion"]))
    with pytest.raises(UserError, match="none of the criteria"):
        served.predict(ROWS.assign(criterion="another"))


def test_an_error_of_mlflow_is_a_line(save_tiny_model: Callable[..., Path], plain_config: dict[str, Any]) -> None:
    on = {"tracking.enabled": True, "tracking.uri": "sqlite:////proc/nowhere/mlflow.db"}
    line = log_model_folder(load_config(plain_config, on), save_tiny_model())
    assert line is not None
    assert line.startswith("note: not logged to MLflow (sqlite:////proc/nowhere/mlflow.db): ")
    assert len(line.splitlines()) == 1
    assert log_model_folder(load_config(plain_config), save_tiny_model()) is None
