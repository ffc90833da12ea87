"""``headroom dashboard``: read-only pages of Optuna Dashboard and MLflow on a study, until Ctrl-C."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_app.commands.guard import HOST, served
from tune_app.console import Console
from tune_app.databases import sqlite_file
from tune_app.errors import UserError, without_password
from tune_app.uris import is_store
from tune_app.voice import Voice

if TYPE_CHECKING:
    from tune_app.config import RunConfig
    from tune_app.study.store import StudyStore

# If a port is taken, by another search for instance, Ray takes the next one.
RAY_PORTS = range(8265, 8270)

_FOLLOW_S = 10.0


@dataclass(frozen=True)
class Page:
    """Page to look at. ``address`` is empty if there is none, and ``note`` gives the reason."""

    name: str
    address: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.address} ({self.note})" if self.address and self.note else self.address or self.note


def open_dashboards(
    run_dir: Path, study_name: str, storage_url: str | None, tracking_uri: str, console: Console
) -> None:
    """Show a study's pages until Ctrl-C or SIGTERM.

    Args:
        storage_url: database of the study; None means its journal in ``run_dir``.
        tracking_uri: MLflow's store, which is served here, or an http(s) server, whose address is only printed.

    Raises:
        UserError: a page's package is missing, or its store cannot be opened.
    """
    with _until_a_signal(), Voice(console) as voice:
        console.say("starting the pages …")
        with dashboards(run_dir, study_name, storage_url, tracking_uri, voice) as pages:
            _show(console, (*pages, *(ray_pages() or [_NO_RAY])))
            while True:
                time.sleep(_FOLLOW_S)


@contextmanager
def followed(store: "StudyStore", config: "RunConfig", run_dir: Path, console: Console) -> Iterator[None]:
    """Keep the working copy of a study in a store up to date while its pages are shown.

    MLflow's runs are filled from the study first, since the search may have run on another machine. They do not follow
    a search that goes on there.
    """
    from tune_app.study.remote import StoredStudies
    from tune_app.study.store import search_is_running
    from tune_app.tracking import open_tracking

    if not is_store(config.study.dir) or search_is_running(run_dir):
        yield
        return
    console.say("updating MLflow's runs from the study …")
    for problem in open_tracking(config, store).flush():
        console.say(problem)
    studies, is_over = StoredStudies(config.study.dir), threading.Event()

    def follow() -> None:
        while not is_over.wait(_FOLLOW_S):
            # If the study cannot be read now, try again at the next turn.
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
    run_dir: Path, study_name: str, storage_url: str | None, tracking_uri: str, voice: Voice
) -> Iterator[tuple[Page, ...]]:
    """Serve a study's pages, read-only, to anyone who has their addresses.

    Raises:
        UserError: a page's package is missing, or its store cannot be opened.
    """
    # The applications take seconds to import.
    from tune_app.commands.pages import mlflow_page, optuna_page

    with ExitStack() as stack:
        voice.doing("loading Optuna Dashboard")
        guard, path = optuna_page(run_dir, storage_url, study_name, voice.say)
        optuna = Page("Optuna Dashboard", guard.address(stack.enter_context(served(guard)), path))
        mlflow = _unserved(tracking_uri)
        if mlflow is None:
            voice.doing("loading MLflow and opening its store")
            guard, fragment = mlflow_page(tracking_uri, study_name, voice.say)
            mlflow = Page("MLflow", guard.address(stack.enter_context(served(guard)), fragment=fragment))
        voice.doing("")
        yield optuna, mlflow


def get(port: int, path: str, timeout_s: float = 5.0) -> tuple[int, bytes] | None:
    """Return status and body of a page on this machine, ignoring proxies; None if nothing answers."""
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
    """Return Ray's dashboards on this machine, one per running search or cluster."""
    pages = []
    for port in ports:
        answer = get(port, "/", timeout_s=2.0)
        if answer is not None and b"<title>Ray Dashboard" in answer[1]:
            wants_token = _json(port, "/api/authentication_mode").get("authentication_mode") == "token"
            note = "asks for the token that ray get-auth-token prints" if wants_token else ""
            pages.append(Page("Ray", f"http://{HOST}:{port}", note))
    return pages


_NO_RAY = Page("Ray", "", "none runs here; a search serves its own with -s resources.ray_dashboard=true")


def _show(console: Console, pages: Sequence[Page]) -> None:
    for page in pages:
        console.say(f"{page.name:<17} {page}")
    console.say("read-only, for whoever has these addresses; Ctrl-C closes the pages")


def _unserved(tracking_uri: str) -> Page | None:
    """Return MLflow's page if it is not served here: that of an existing server, or none for a missing store."""
    if tracking_uri.startswith(("http://", "https://")):
        return Page("MLflow", without_password(tracking_uri))
    file = sqlite_file(tracking_uri)
    # MLflow would create the file.
    if file is not None and not os.path.exists(file):
        return Page("MLflow", "", f"nothing is recorded yet: {file} does not exist")
    return None


def _json(port: int, path: str) -> dict[str, Any]:
    """Return the JSON object of a page; empty if it has none, since callers only refine an address with it."""
    answer = get(port, path)
    if answer is None or answer[0] != 200:
        return {}
    try:
        answered = json.loads(answer[1])
    except ValueError:
        return {}
    return answered if isinstance(answered, dict) else {}


@contextmanager
def _until_a_signal() -> Iterator[None]:
    """End the block gracefully on SIGINT, SIGTERM and a closed terminal, at any point."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Under nohup, SIGHUP stays ignored.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
