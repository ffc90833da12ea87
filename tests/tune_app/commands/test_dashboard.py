"""The live pages: they show the study, and nothing of them is left at the end."""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from tune_app.commands import dashboard
from tune_app.commands.dashboard import ProgramError, Server
from tune_app.console import Console
from tune_app.errors import UserError

STUDY = "my-study"
StartProgram = Callable[..., Server]
WaitFor = Callable[[Callable[[], object]], None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[StartProgram]:
    """Start a Python program as a server; ended at the end of the test, whatever becomes of it."""
    servers: list[Server] = []

    def start(source: str, *arguments: str, secrets: tuple[str, ...] = ()) -> Server:
        port = free_port()
        command = [sys.executable, "-c", textwrap.dedent(source), str(port), *arguments]
        log = tmp_path / f"program-{len(servers)}.log"
        servers.append(Server("Program", command, port=port, ready_path="/", log=log, secrets=secrets))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


SERVES = """
    import http.server, sys
    handler = http.server.SimpleHTTPRequestHandler
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


def test_a_program_is_ready_once_it_answers_and_its_port_is_closed_once_it_is_ended(
    start_program: StartProgram,
) -> None:
    server = start_program(SERVES)
    dashboard.wait_until_ready([server], threading.Event(), 20)
    assert is_open(server.port)
    dashboard.end([server])
    assert not is_open(server.port)
    assert not is_alive(server.pid)


def test_children_that_ignore_the_end_are_ended_too(
    start_program: StartProgram, tmp_path: Path, wait_for: WaitFor
) -> None:
    stubborn = """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if child:
            open(sys.argv[2], "w").write(str(child))
        time.sleep(60)
    """
    pid_file = tmp_path / "child"
    server = start_program(stubborn, str(pid_file))
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    child = int(pid_file.read_text())
    dashboard.end([server], grace_s=0.3)
    wait_for(lambda: not is_alive(child) and not is_alive(server.pid))


def test_an_orphan_that_outlives_its_program_is_ended_too(
    start_program: StartProgram, tmp_path: Path, wait_for: WaitFor
) -> None:
    leaves_a_child = """
        import os, sys, time
        child = os.fork()
        if child:
            open(sys.argv[2], "w").write(str(child))
        else:
            time.sleep(60)
    """
    pid_file = tmp_path / "child"
    server = start_program(leaves_a_child, str(pid_file))
    server.wait(20)
    child = int(pid_file.read_text())
    assert is_alive(child)
    dashboard.end([server])
    wait_for(lambda: not is_alive(child))


def test_a_program_that_ends_by_itself_is_told_with_its_last_words_but_no_password(start_program: StartProgram) -> None:
    url = "postgresql://me:hidden@host/db"
    source = f"import sys; print('first'); print('cannot open {url}'); sys.exit(3)"
    server = start_program(source, secrets=(url,))
    with pytest.raises(ProgramError, match=r"Program ended by itself \(exit status 3\): cannot open") as raised:
        dashboard.stay([server], threading.Event())
    assert raised.value.output == ("first", "cannot open postgresql://me:***@host/db")
    assert "hidden" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_killed_program_is_told_with_the_signal(start_program: StartProgram) -> None:
    server = start_program(SERVES)
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(ProgramError, match="SIGKILL"):
        dashboard.stay([server], threading.Event())


def test_a_program_that_never_answers_is_given_up(start_program: StartProgram) -> None:
    server = start_program("import time; time.sleep(60)")
    with pytest.raises(ProgramError, match=r"did not answer within 0\.3 s"):
        dashboard.wait_until_ready([server], threading.Event(), 0.3)


def test_waiting_ends_when_asked_to(start_program: StartProgram) -> None:
    server = start_program("import time; time.sleep(60)")
    stop = threading.Event()
    stop.set()
    dashboard.wait_until_ready([server], stop, 60)
    dashboard.stay([server], stop)


@contextlib.contextmanager
def page_like_rays(mode: str) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            if self.path == "/":
                self.wfile.write(b"<html><title>Ray Dashboard</title></html>")
            else:
                self.wfile.write(json.dumps({"authentication_mode": mode}).encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_rays_page_is_named_where_one_answers() -> None:
    with page_like_rays("disabled") as port:
        (page,) = dashboard.ray_pages([free_port(), port])
    assert str(page) == f"http://127.0.0.1:{port}"


def test_rays_page_behind_a_token_says_how_to_get_it() -> None:
    with page_like_rays("token") as port:
        (page,) = dashboard.ray_pages([port])
    assert "ray get-auth-token" in str(page)


def test_loopback_is_asked_directly_whatever_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with page_like_rays("token") as port:
        assert dashboard.get(port, "/") is not None


def test_a_program_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert dashboard.program("optuna-dashboard") == Path(sys.executable).parent / "optuna-dashboard"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dashboard.program("optuna-dashboard") is None
    with pytest.raises(UserError, match="pip install optuna-dashboard"):
        dashboard.open_dashboards(tmp_path, STUDY, None, "http://host", Console(file=io.StringIO()))


MAKE_STUDY = """
    import sys
    import optuna
    from mlflow.tracking import MlflowClient
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    name, folder = sys.argv[1:]
    storage = JournalStorage(JournalFileBackend(f"{folder}/{name}/study.journal"))
    study = optuna.create_study(study_name=name, storage=storage)
    study.optimize(lambda trial: trial.suggest_float("optim.lr", 0, 1), n_trials=3)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    client.create_run(client.create_experiment(name), run_name=name)
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a study of three trials, and MLflow's store; made by Optuna's and MLflow's own means."""
    runs = tmp_path_factory.mktemp("recorded")
    (runs / STUDY).mkdir()
    # In a process of its own, where MLflow's warnings are no errors.
    command = [sys.executable, "-c", textwrap.dedent(MAKE_STUDY), STUDY, str(runs)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return runs


@pytest.fixture
def run_dir(recorded: Path, tmp_path: Path) -> Path:
    """The run directory of a study in a copy of what was recorded."""
    shutil.copytree(recorded, tmp_path / "runs")
    return tmp_path / "runs" / STUDY


def body(address: str) -> str:
    port, _, path = address.removeprefix("http://127.0.0.1:").partition("/")
    answer = dashboard.get(int(port), f"/{path.partition('#')[0]}")
    assert answer is not None
    assert answer[0] == 200
    return answer[1].decode()


Told = dict[str, str]
"""Page → where it is."""


def stay_until(
    number: signal.Signals, run_dir: Path, tracking: str, look: Callable[[Told], None]
) -> list[psutil.Process]:
    """Open the pages in a process that is sent a signal once they were looked at, and see that nothing is left of it.

    Returns the processes that it had started.
    """
    source = f"""
        from pathlib import Path
        from tune_app.console import Console
        from tune_app.commands.dashboard import open_dashboards
        open_dashboards(Path({str(run_dir)!r}), {run_dir.name!r}, None, {tracking!r}, Console())
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            told: Told = {}
            for line in iter(process.stdout.readline, "Ctrl-C ends these pages\n"):
                assert line, "ended before it was ready"
                name, _, rest = line.partition("  ")
                told[name] = rest.strip()
            started = psutil.Process(process.pid).children(recursive=True)
            look(told)
        finally:
            process.send_signal(number)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert not [child for child in started if is_alive(child.pid)]
    # Ray's page, where there is one, is another's.
    for address in (told["Optuna Dashboard"], told["MLflow"]):
        if address.startswith("http://127.0.0.1:"):
            assert not is_open(int(address.split(":")[2].split("/")[0]))
    return started


@pytest.mark.slow
def test_both_pages_show_the_study_until_ctrl_c_and_leave_nothing_behind(run_dir: Path) -> None:
    journal = (run_dir / "study.journal").read_bytes()

    def look(told: Told) -> None:
        optuna_page, mlflow_page = told["Optuna Dashboard"], told["MLflow"]
        assert "<title>Optuna Dashboard" in body(optuna_page)
        assert "<title>MLflow" in body(mlflow_page)
        optuna_root, _, study_id = optuna_page.partition("/dashboard/studies/")
        assert json.loads(body(f"{optuna_root}/api/studies/{study_id}"))["name"] == STUDY
        mlflow_root, _, experiment = mlflow_page.partition("/#/experiments/")
        api = f"{mlflow_root}/api/2.0/mlflow/experiments/get?experiment_id={experiment.removesuffix('/runs')}"
        assert json.loads(body(api))["experiment"]["name"] == STUDY

    started = stay_until(signal.SIGINT, run_dir, f"sqlite:///{run_dir.parent}/mlflow.db", look)
    assert len(started) >= 3, "two programs, one of them with a worker"
    assert (run_dir / "study.journal").read_bytes() == journal, "the pages only read"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_the_pages_as_well(number: signal.Signals, run_dir: Path) -> None:
    def look(told: Told) -> None:
        assert "<title>Optuna Dashboard" in body(told["Optuna Dashboard"])

    assert stay_until(number, run_dir, "https://tracking.example/", look)


@pytest.mark.slow
def test_a_database_and_anothers_tracking_server_are_shown_without_their_passwords(tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name=STUDY, storage=url)
    opened = dashboard.dashboards(
        tmp_path, STUDY, url, "https://me:hidden@tracking.example/", stop=threading.Event(), ready_timeout_s=60
    )
    with opened as shown:
        (server,) = shown.servers
        assert url not in " ".join(psutil.Process(server.pid).cmdline())
        optuna_page, mlflow_page = shown.pages
        assert optuna_page.address.startswith(f"http://127.0.0.1:{server.port}/dashboard/studies/")
        assert mlflow_page.address == "https://me:***@tracking.example/"
    assert not is_open(server.port)


@pytest.mark.slow
def test_a_tracking_store_that_is_not_there_yet_is_not_made(run_dir: Path) -> None:
    absent = run_dir / "absent.db"
    opened = dashboard.dashboards(run_dir, STUDY, None, f"sqlite:///{absent}", stop=threading.Event())
    with opened as shown:
        assert len(shown.servers) == 1
        assert "nothing is recorded yet" in str(shown.pages[1])
    assert not absent.exists()


@pytest.mark.slow
def test_a_store_that_cannot_be_opened_ends_both_with_the_reason(run_dir: Path) -> None:
    broken = run_dir / "broken.db"
    broken.write_text("no database, but long enough to be looked at as one" * 10)
    output = io.StringIO()
    with pytest.raises(UserError, match="MLflow ended by itself"):
        dashboard.open_dashboards(run_dir, STUDY, None, f"sqlite:///{broken}", Console(file=output, width=200))
    assert "file is not a database" in output.getvalue()
    assert not [child for child in psutil.Process().children() if "dashboard" in " ".join(child.cmdline())]
