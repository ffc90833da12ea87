"""Libraries of which private names are used: their versions are bounded, and upgrades are decisions."""

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BOUNDED = ("ray", "optuna", "optuna-dashboard", "mlflow")


@pytest.mark.parametrize("name", BOUNDED)
def test_the_version_is_bounded_above_and_the_installed_one_lies_within(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = next(one for one in map(Requirement, project["dependencies"]) if one.name == name)
    assert {bound.operator for bound in stated.specifier} == {">=", "<"}
    assert stated.specifier.contains(version(name))


def test_mlflow_s_server_opens_a_store_as_it_is_asked_to() -> None:
    from mlflow.server import app, handlers

    assert callable(app)
    assert list(inspect.signature(handlers.initialize_backend_stores).parameters)[:3] == [
        "backend_store_uri",
        "registry_store_uri",
        "default_artifact_root",
    ]
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    assert "/api/2.0/mlflow/experiments/get-by-name" in routes


def test_optuna_dashboard_s_page_lists_studies_where_they_are_looked_for() -> None:
    import optuna
    from optuna_dashboard import wsgi
    from werkzeug.test import Client

    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="criteria")
    (summary,) = Client(wsgi(storage)).get("/api/studies").get_json()["study_summaries"]
    assert (summary["study_name"], summary["study_id"]) == ("criteria", 0)
