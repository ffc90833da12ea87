"""Live pages: they show the study, change nothing, and leave nothing behind."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

import psutil
import pytest

from tune_app.commands import dashboard, pages
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.voice import Voice

STUDY = "my-study"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(UserError, match="pip install optuna-dashboard"):
        pages.optuna_page(tmp_path, None, STUDY, print)


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
    """Return a folder of runs with a study of three trials and MLflow's store, written by Optuna and MLflow."""
    runs = tmp_path_factory.mktemp("recorded")
    (runs / STUDY).mkdir()
    # A separate process, where MLflow's warnings are no errors.
    command = [sys.executable, "-c", textwrap.dedent(MAKE_STUDY), STUDY, str(runs)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return runs


@pytest.fixture
def run_dir(recorded: Path, tmp_path: Path) -> Path:
    """Return the run directory of a study in a copy of the recorded runs."""
    shutil.copytree(recorded, tmp_path / "runs")
    return tmp_path / "runs" / STUDY


class Browser:
    """Client that follows an address as a browser does: its redirect, with the cookie that comes with it."""

    def __init__(self, address: str) -> None:
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))
        parts = urlsplit(address)
        self.root, self.port, self.fragment = f"{parts.scheme}://{parts.netloc}", parts.port, parts.fragment
        self.path, self.page = "", ""
        with self._opener.open(address, timeout=60) as answer:
            self.path, self.page = urlsplit(answer.geturl()).path, answer.read().decode()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            return error.code, json.loads(error.read())


Addresses = dict[str, str]
"""Page → its address."""

LAST_LINE = "read-only, for whoever has these addresses; Ctrl-C closes the pages\n"


@contextlib.contextmanager
def opened(run_dir: Path, tracking: str) -> Iterator[tuple[subprocess.Popen[str], Addresses]]:
    """Open the pages in another process, which must have ended by the end of the block."""
    source = f"""
        from pathlib import Path
        from tune_app.commands.dashboard import open_dashboards
        from tune_app.console import Console
        from tune_app.quiet import quiet_libraries
        quiet_libraries()
        open_dashboards(Path({str(run_dir)!r}), {run_dir.name!r}, None, {tracking!r}, Console(width=200))
    """
    command = [sys.executable, "-c", textwrap.dedent(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            addresses: Addresses = {}
            for line in iter(process.stdout.readline, LAST_LINE):
                assert line, "ended before it was ready"
                name, _, rest = line.rstrip().partition("  ")
                addresses[name] = rest.strip()
            yield process, addresses
            process.wait(30)
        finally:
            process.kill()


SILENCE = re.compile(r"loading MLflow and opening its store \(\d+ s\)")


@pytest.mark.slow
def test_both_pages_show_the_study_change_nothing_and_end_with_their_process(run_dir: Path) -> None:
    database = run_dir.parent / "mlflow.db"
    journal = (run_dir / "study.journal").read_bytes()
    with opened(run_dir, f"sqlite:///{database}") as (process, addresses):
        ours = {"starting the pages …", "Optuna Dashboard", "MLflow", "Ray"}
        assert ours <= set(addresses)
        # On a busy machine a line of our own says what takes so long.
        others = [rest for name, rest in addresses.items() if name not in ours and not SILENCE.fullmatch(rest)]
        assert others == [], "no library says anything"
        optuna = Browser(addresses["Optuna Dashboard"])
        assert "<title>Optuna Dashboard" in optuna.page
        assert "token" not in optuna.path
        study_id = optuna.path.removeprefix("/dashboard/studies/")
        status, study = optuna.ask("GET", f"/api/studies/{study_id}")
        assert (status, study["name"]) == (200, STUDY)
        mlflow = Browser(addresses["MLflow"])
        assert "<title>MLflow" in mlflow.page
        experiment = mlflow.fragment.removeprefix("/experiments/").removesuffix("/runs")
        runs = mlflow.ask("POST", "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": [experiment]})
        assert runs[1]["runs"][0]["info"]["run_name"] == STUDY
        # Requests that the server behind the guard would obey.
        for browser, method, path, body in (
            (optuna, "DELETE", f"/api/studies/{study_id}", {}),
            (optuna, "POST", "/api/studies", {"study_name": "x", "directions": ["minimize"]}),
            (optuna, "PUT", f"/api/studies/{study_id}/note", {"body": "x", "version": 1}),
            (mlflow, "POST", "/ajax-api/2.0/mlflow/experiments/delete", {"experiment_id": experiment}),
            (mlflow, "POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": [experiment]}),
            (mlflow, "GET", "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=x", None),
            (mlflow, "GET", "/ajax-api/3.0/mlflow/gateway/secrets/list", None),
        ):
            status, answer = browser.ask(method, path, body)
            assert status == 403, path
            assert "nothing can be changed here" in str(answer["message"])
        assert psutil.Process(process.pid).children(recursive=True) == [], "no server can be left behind"
        listening = {place.laddr for place in psutil.Process(process.pid).net_connections() if place.status == "LISTEN"}
        assert listening == {("127.0.0.1", optuna.port), ("127.0.0.1", mlflow.port)}
        process.kill()
    assert not is_open(optuna.port)
    assert not is_open(mlflow.port)
    assert (run_dir / "study.journal").read_bytes() == journal


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_pages_in_good_order(number: signal.Signals, run_dir: Path) -> None:
    with opened(run_dir, "https://me:hidden@tracking.example/") as (process, addresses):
        assert "<title>Optuna Dashboard" in Browser(addresses["Optuna Dashboard"]).page
        assert addresses["MLflow"] == "https://me:***@tracking.example/"
        process.send_signal(number)
    assert process.returncode == 0


QUIET = Voice(Console(), quiet=True)


def test_a_study_in_a_database_is_shown(tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name=STUDY, storage=url)
    with dashboard.dashboards(tmp_path, STUDY, url, "https://tracking.example/", QUIET) as (shown, mlflow):
        browser = Browser(shown.address)
        assert browser.path.startswith("/dashboard/studies/")
        assert browser.ask("GET", "/api/studies")[1]["study_summaries"][0]["study_name"] == STUDY
        assert mlflow.address == "https://tracking.example/"
    assert not is_open(browser.port)


def test_a_tracking_store_that_is_not_there_yet_is_not_made(run_dir: Path) -> None:
    absent = run_dir / "absent.db"
    with dashboard.dashboards(run_dir, STUDY, None, f"sqlite:///{absent}", QUIET) as (_, mlflow):
        assert "nothing is recorded yet" in str(mlflow)
    assert not absent.exists()


@pytest.mark.slow
def test_a_store_that_cannot_be_opened_is_told_in_a_line(run_dir: Path) -> None:
    broken = run_dir / "broken.db"
    broken.write_text("no database, but long enough to be looked at as one" * 10)
    with pytest.raises(UserError, match=r"tracking\.uri: sqlite:///.*broken\.db cannot be opened") as raised:
        pages.mlflow_page(f"sqlite:///{broken}", STUDY, print)
    assert "file is not a database" in str(raised.value)
