"""The storages that a study may lie in, of which all the same holds, and the command line run in this process."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from optuna.storages import RDBStorage

from tune_app.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def headroom(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as exited:
            main(list(arguments))
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return Ran(exited.value.code, captured.out, captured.err)

    return run


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
