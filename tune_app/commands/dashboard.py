"""``headroom dashboard``: Optuna Dashboard and MLflow's own pages on a study, started and ended together.

The programs are those that come with the two packages. Each runs in a process group of its own, so that Ctrl-C reaches
this process alone and the end of it takes their children along.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tune_app.console import Console
from tune_app.databases import sqlite_file
from tune_app.errors import UserError, without_password
from tune_app.uris import is_store

if TYPE_CHECKING:
    from tune_app.config import RunConfig
    from tune_app.study.store import StudyStore

HOST = "127.0.0.1"
# Ray takes the next port where the first is taken, e.g. by another search.
RAY_PORTS = range(8265, 8270)

_GRACE_S = 10.0
_POLL_S = 0.2
_FOLLOW_S = 10.0
_SHOWN_LINES = 10


@dataclass(frozen=True)
class Page:
    """A page to look at; ``address`` is empty where there is none, and ``note`` says why."""

    name: str
    address: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.address} ({self.note})" if self.address and self.note else self.address or self.note


class ProgramError(UserError):
    """A page's program ended or did not answer; ``output`` is what it said last, passwords removed."""

    def __init__(self, message: str, output: Sequence[str]) -> None:
        super().__init__(message)
        self.output = tuple(output)


class Server:
    """A running program that serves a page on a loopback port.

    Args:
        ready_path: answers with status 200 when the page can be used.
        environment: what is added to this process's. Secrets belong there: a command line is everybody's to read.
        secrets: URLs that its output must not be shown with.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        ready_path: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.port = port
        self.ready_path = ready_path
        self._log = log
        self._secrets = tuple(secrets)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the program, which is also the number of its process group."""
        return self._process.pid

    def is_ready(self) -> bool:
        answer = get(self.port, self.ready_path)
        return answer is not None and answer[0] == 200

    def check(self) -> None:
        """Do nothing while the program runs.

        Raises:
            ProgramError: it has ended.
        """
        status = self._process.poll()
        if status is None:
            return
        if status < 0:
            raise self.error(f"ended by itself ({signal.Signals(-status).name}); run headroom dashboard again")
        said = self.last_lines()[-1:] or ["no output"]
        raise self.error(
            f"ended by itself (exit status {status}): {said[0].strip()}; mend that and run headroom dashboard again"
        )

    def error(self, what: str) -> ProgramError:
        return ProgramError(f"{self.name} {what}", self.last_lines())

    def signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait(self, timeout_s: float) -> None:
        """Until the program has ended, or the time is up."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, timeout_s))

    def kill(self) -> None:
        """End what is left of the program and its children at once."""
        self.signal_group(signal.SIGKILL)
        self._process.wait()

    def last_lines(self) -> list[str]:
        """What the program said last, passwords removed."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, without_password(secret))
        lines = [without_password(line.rstrip()) for line in text.splitlines() if line.strip()]
        return lines[-_SHOWN_LINES:]


@dataclass(frozen=True)
class Dashboards:
    """What was started: the programs, and the study's pages in them."""

    servers: tuple[Server, ...]
    pages: tuple[Page, ...]


def open_dashboards(
    run_dir: Path,
    study_name: str,
    storage_url: str | None,
    tracking_uri: str,
    console: Console,
    *,
    ready_timeout_s: float = 60.0,
) -> None:
    """Show a study's pages until Ctrl-C or SIGTERM; nothing started here is left afterwards.

    Args:
        storage_url: database of the study; None: its journal in ``run_dir``.
        tracking_uri: MLflow's store, which is served here, or an http(s) server, which is only named.

    Raises:
        UserError: a program is missing, does not answer, or ended by itself.
    """
    with _stop_on_signals() as stop:
        console.say("starting the pages …")
        try:
            with dashboards(
                run_dir, study_name, storage_url, tracking_uri, stop=stop, ready_timeout_s=ready_timeout_s
            ) as opened:
                if not stop.is_set():
                    _show(console, (*opened.pages, *(ray_pages() or [_NO_RAY])))
                stay(opened.servers, stop)
        except ProgramError as error:
            for line in error.output:
                console.say(line)
            raise


@contextmanager
def followed(store: "StudyStore", config: "RunConfig", run_dir: Path, console: Console) -> Iterator[None]:
    """Keep the copy of a study up to date that a store keeps, while its pages are shown.

    What MLflow shows is filled from the study first, since the search may have been on another machine; of one that
    goes on there it does not follow.
    """
    from tune_app.experiment import open_tracking
    from tune_app.study.remote import StoredStudies
    from tune_app.study.store import search_is_running

    if not is_store(config.study.dir) or search_is_running(run_dir):
        yield
        return
    console.say("bringing MLflow's runs up to date with the study …")
    for problem in open_tracking(config, store).flush():
        console.say(problem)
    studies, is_over = StoredStudies(config.study.dir), threading.Event()

    def follow() -> None:
        while not is_over.wait(_FOLLOW_S):
            # One that cannot be read now is read the next time.
            with suppress(UserError):
                studies.fetch(config.study.name)

    thread = threading.Thread(target=follow, name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def dashboards(
    run_dir: Path,
    study_name: str,
    storage_url: str | None,
    tracking_uri: str,
    *,
    stop: threading.Event,
    ready_timeout_s: float = 60.0,
) -> Iterator[Dashboards]:
    """Start the programs, yield when each answers (or ``stop`` is set), and end them on the way out.

    Raises:
        UserError: a program is missing, ended by itself, or does not answer in time.
    """
    servers: list[Server] = []
    with TemporaryDirectory(prefix="headroom-dashboard-") as scratch:
        try:
            servers.append(start_optuna(run_dir, storage_url, Path(scratch)))
            unserved = _unserved(tracking_uri)
            if unserved is None:
                servers.append(start_mlflow(tracking_uri, Path(scratch)))
            wait_until_ready(servers, stop, ready_timeout_s)
            mlflow = unserved or Page("MLflow", _mlflow_address(servers[-1].port, study_name))
            pages = (Page("Optuna Dashboard", _optuna_address(servers[0].port, study_name)), mlflow)
            yield Dashboards(tuple(servers), pages)
        finally:
            end(servers)


def start_optuna(run_dir: Path, storage_url: str | None, scratch: Path) -> Server:
    """Start Optuna Dashboard on the study's storage.

    Args:
        scratch: a private folder for its settings, which may hold a password, and its output.
    """
    from tune_app.study.store import JOURNAL_FILE

    settings = {
        "storage": storage_url or str(run_dir / JOURNAL_FILE),
        "storage_class": "RDBStorage" if storage_url else "JournalFileStorage",
        # Its other server, gunicorn, puts a control socket into the home folder, one for all that run.
        "server": "wsgiref",
    }
    file = scratch / "optuna-dashboard.toml"
    # A JSON string is a TOML string as long as it is not forced into ASCII.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    file.write_text("\n".join(["[optuna_dashboard]", *lines, ""]), encoding="utf-8")
    port = _free_port()
    return Server(
        "Optuna Dashboard",
        [_required("optuna-dashboard"), "--from-config", str(file), "--host", HOST, "--port", str(port)],
        port=port,
        ready_path="/dashboard",
        log=scratch / "optuna-dashboard.log",
        secrets=[storage_url] if storage_url else [],
    )


def start_mlflow(tracking_uri: str, scratch: Path) -> Server:
    """Start MLflow's server on a store."""
    port = _free_port()
    options = {"--host": HOST, "--port": str(port), "--workers": "1", "--uvicorn-opts": "--log-level warning"}
    return Server(
        "MLflow",
        [_required("mlflow"), "server", *(part for option in options.items() for part in option)],
        port=port,
        ready_path="/",
        log=scratch / "mlflow.log",
        environment={
            "MLFLOW_BACKEND_STORE_URI": tracking_uri,
            # Background jobs (judges, scorers) would be a further set of processes, of no use to a search.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        secrets=[tracking_uri],
    )


def wait_until_ready(servers: Sequence[Server], stop: threading.Event, timeout_s: float) -> None:
    """Return when every server answers, or ``stop`` is set.

    Raises:
        ProgramError: one ended, or does not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    waiting = list(servers)
    while waiting and not stop.is_set():
        for server in servers:
            server.check()
        waiting = [server for server in waiting if not server.is_ready()]
        if waiting and time.monotonic() > deadline:
            raise waiting[0].error(f"did not answer within {timeout_s:g} s; run headroom dashboard again")
        if waiting:
            time.sleep(_POLL_S)


def stay(servers: Sequence[Server], stop: threading.Event) -> None:
    """Return when ``stop`` is set.

    Raises:
        ProgramError: one of the servers ended.
    """
    while not stop.is_set():
        for server in servers:
            server.check()
        # Not stop.wait(): a signal handler that sets the event while its lock is held would wait for itself.
        time.sleep(_POLL_S)


def end(servers: Sequence[Server], grace_s: float = _GRACE_S) -> None:
    """Ask all to end, together, and after ``grace_s`` end what is left of them and their children."""
    deadline = time.monotonic() + grace_s
    try:
        for server in servers:
            server.signal_group(signal.SIGTERM)
        for server in servers:
            server.wait(deadline - time.monotonic())
    finally:
        for server in servers:
            server.kill()


def program(name: str) -> Path | None:
    """A console script beside this interpreter, or on the search path; None where it is not installed."""
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which(name)
    return Path(found) if found else None


def get(port: int, path: str, timeout_s: float = 5.0) -> tuple[int, bytes] | None:
    """Status and body of a page on this machine, whatever proxy the environment names; None where nothing answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def ray_pages(ports: Iterable[int] = RAY_PORTS) -> list[Page]:
    """Ray's dashboards on this machine: one per running search or cluster."""
    pages = []
    for port in ports:
        answer = get(port, "/", timeout_s=2.0)
        if answer is not None and b"<title>Ray Dashboard" in answer[1]:
            wants_token = _json(port, "/api/authentication_mode").get("authentication_mode") == "token"
            note = "asks for the token that ray get-auth-token prints" if wants_token else ""
            pages.append(Page("Ray", f"http://{HOST}:{port}", note))
    return pages


_NO_RAY = Page("Ray", "", f"its page is there while a search runs, at http://{HOST}:{RAY_PORTS.start}")


def _show(console: Console, pages: Sequence[Page]) -> None:
    for page in pages:
        console.say(f"{page.name:<17} {page}")
    console.say("Ctrl-C ends these pages")


def _unserved(tracking_uri: str) -> Page | None:
    """The page to name in place of one that is served here: another's server, or a store that is not there yet."""
    if tracking_uri.startswith(("http://", "https://")):
        return Page("MLflow", without_password(tracking_uri))
    file = sqlite_file(tracking_uri)
    # MLflow would create it.
    if file is not None and not os.path.exists(file):
        return Page("MLflow", "", f"nothing is recorded yet: {file} does not exist")
    return None


def _optuna_address(port: int, study_name: str) -> str:
    for summary in _json(port, "/api/studies").get("study_summaries", []):
        if summary["study_name"] == study_name:
            return f"http://{HOST}:{port}/dashboard/studies/{summary['study_id']}"
    return f"http://{HOST}:{port}/dashboard"


def _mlflow_address(port: int, study_name: str) -> str:
    found = _json(port, f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(study_name)}")
    if "experiment" in found:
        return f"http://{HOST}:{port}/#/experiments/{found['experiment']['experiment_id']}/runs"
    return f"http://{HOST}:{port}/"


def _json(port: int, path: str) -> dict[str, Any]:
    """The object at a page, empty if it has none: what it is asked for makes an address better, not possible."""
    answer = get(port, path)
    if answer is None or answer[0] != 200:
        return {}
    try:
        found = json.loads(answer[1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _required(name: str) -> str:
    path = program(name)
    if path is None:
        raise UserError(f"{name}: is not installed beside {sys.executable}; run: pip install {name}")
    return str(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and a closed terminal set, so that the end is always the orderly one."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # nohup ignores SIGHUP, and that stays so.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
