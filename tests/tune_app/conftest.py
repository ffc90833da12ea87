"""The storages that a study may lie in: what holds of one holds of all."""

import shutil
from pathlib import Path

import pytest
from optuna.storages import RDBStorage


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With Optuna's tables, which take longer to make than to copy."""
    file = tmp_path_factory.mktemp("database") / "empty.db"
    RDBStorage(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["journal", "sqlite"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> str | None:
    """An empty storage of each kind, as ``study.storage`` names it; None keeps studies in their run directories."""
    if request.param == "journal":
        return None
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'study.db')}"
