"""The command line run in this process, and a storage of each kind for the tests that hold for all."""

import importlib.util
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text

from tune_app.cli import main


@dataclass(frozen=True)
class Ran:
    """Outcome of a command: its exit code and its output."""

    code: int
    out: str
    err: str


@pytest.fixture
def headroom(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Return a function that runs a command in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as exited:
            main(list(arguments))
        captured = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return Ran(exited.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def mine_yaml() -> str:
    """Return the configuration of a small study named ``mine``, with one searched parameter."""
    return """
study: {name: mine}
data: {path: demo, max_rows: 200}
model: {name: tiny-bert}
limits: null
tracking: {enabled: false}
space:
  optim.lr: {choices: [0.1, 0.2, 0.3]}
"""


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object]], None]:
    """Return a function that waits until a condition holds, and fails the test after 20 seconds."""

    def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with MLflow's tables, which take seconds to make."""
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with Optuna's tables, which take longer to make than to copy."""
    file = tmp_path_factory.mktemp("database") / "empty.db"
    RDBStorage(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server for the tests, with the database ``empty`` that holds Optuna's tables."""
    with postgres_server() as url:
        create_database(url, "empty")
        RDBStorage(url.replace("/postgres?", "/empty?")).engine.dispose()
        yield url


@pytest.fixture
def postgres_url_to_kill() -> Iterator[str]:
    """Start a PostgreSQL server for one test, which may stop or damage it."""
    with postgres_server() as url:
        yield url


@contextmanager
def postgres_server() -> Iterator[str]:
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed (pip install 'psycopg[binary]')")
    script = Path(__file__).parents[2] / "scripts" / "with_postgres"
    command = [str(script), "sh", "-c", 'echo "$POSTGRES_URL"; cat']
    # The server runs until its command ends, which waits for the end of its input.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        url = server.stdout.readline().decode().strip()
        if not url:
            pytest.skip(server.stderr.read().decode().strip())
        yield url
        server.stdin.close()


def create_database(url: str, name: str, template: str = "template1") -> str:
    """Make a database on a server and return its URL."""
    on_server(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return url.replace("/postgres?", f"/{name}?")


def on_server(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """Make a database with Optuna's tables for one test."""
    name = f"test_{uuid.uuid4().hex}"
    yield create_database(postgres_url, name, "empty")
    # Dropping databases one by one is faster than clearing away hundreds of them at the end.
    on_server(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["journal", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Return an empty storage of each kind as ``study.storage``; None keeps studies in their run directories."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("database_url"))
    if request.param == "sqlite":
        return f"sqlite:///{shutil.copy(request.getfixturevalue('empty_database'), tmp_path / 'study.db')}"
    return None
