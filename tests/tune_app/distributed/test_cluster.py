"""Joining Ray: an absent cluster is an error at once."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from tune_app.distributed import cluster
from tune_app.distributed.addresses import ClusterAddress, cluster_address
from tune_app.distributed.nodes import Node
from tune_app.errors import UserError


@pytest.mark.parametrize(
    ("is_given", "setting", "remedy"),
    [(True, "--address", "leave --address out"), (False, "RAY_ADDRESS", "unset RAY_ADDRESS to have Ray started here")],
)
def test_an_address_where_nothing_listens_is_refused_at_once_by_what_names_it(
    is_given: bool, setting: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    if not is_given:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(
        UserError, match=rf"^{setting}: no Ray cluster answers at {address} .*ray start --head, or {remedy}$"
    ):
        cluster.joined(address if is_given else None).__enter__()


@pytest.fixture
def web_server() -> Iterator[int]:
    """Return the port of a server that is not Ray's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_server_of_another_protocol_is_refused_before_ray_tries_it(
    web_server: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        UserError, match=r"^--address: no Ray cluster answers at .* \(what answers there is not Ray\); "
    ):
        cluster.joined(f"127.0.0.1:{web_server}").__enter__()
    # The server complains about the greeting on the same standard error.
    assert "GCS" not in capfd.readouterr().err


def test_a_server_of_rays_protocol_is_left_to_ray() -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        cluster.require_listener(ClusterAddress("--address", f"127.0.0.1:{port}"))
    finally:
        server.stop(None)


def test_encrypted_clusters_are_left_to_ray(web_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    cluster.require_listener(ClusterAddress("--address", f"127.0.0.1:{web_server}"))


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        (None, {}, None),
        (None, {"RAY_ADDRESS": ""}, None),
        (None, {"RAY_ADDRESS": "local"}, None),
        (None, {"RAY_ADDRESS": "h:1"}, ClusterAddress("RAY_ADDRESS", "h:1")),
        ("auto", {"RAY_ADDRESS": "h:1"}, ClusterAddress("--address", "auto")),
    ],
)
def test_the_option_goes_before_the_variable_and_local_stands_for_none(
    given: str | None, environ: dict[str, str], expected: ClusterAddress | None
) -> None:
    assert cluster_address(given, environ) == expected


@pytest.mark.parametrize("before", [None, "", "1"])
def test_only_processes_that_ray_starts_have_the_working_directory_off_their_path(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that the caller starts later find their own folder."""
    if before is None:
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    seen: list[str] = []

    def start(**options: Any) -> None:
        seen.append(os.environ["PYTHONSAFEPATH"])
        raise RuntimeError("started")

    monkeypatch.setattr(cluster.ray, "init", start)
    with pytest.raises(UserError):
        cluster.joined(None).__enter__()
    assert (seen, os.environ.get("PYTHONSAFEPATH")) == (["1"], before)


def test_the_command_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("tokenize", "random", "click", "logging"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('planted')")
    root = str(Path(cluster.__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-m", "tune_app", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**options: Any) -> None:
        raise Exception("The current node timed out during startup.\nIts log")  # As Ray does.

    monkeypatch.setattr(cluster.ray, "init", start)
    with pytest.raises(UserError, match=r"^Ray does not start on this machine \(The current node timed out .*doctor"):
        cluster.joined(None).__enter__()


def test_a_trial_larger_than_every_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "living_nodes", lambda: [Node("a", "a", 2, 0), Node("b", "b", 3, 0.5)])
    several = cluster.Cluster({"CPU": 5.0, "GPU": 0.5}, None, joined=True)
    several.check_fits(cpu=3, gpu=0)
    with pytest.raises(UserError, match=r"resources\.cpu: 4 is more than the 3 that any node of the cluster has here"):
        several.check_fits(cpu=4, gpu=0)
    with pytest.raises(UserError, match=r"resources\.gpu: 1 is more than the 0\.5"):
        several.check_fits(cpu=1, gpu="auto")
    alone = cluster.Cluster({"CPU": 2.0}, None)
    with pytest.raises(UserError, match=r"resources\.cpu: 4 is more than the 3 that Ray has here; lower it"):
        alone.check_fits(cpu=4, gpu=0)


@pytest.mark.parametrize(
    ("wanted", "offered", "given"), [("auto", 2.0, "auto"), ("auto", 0.0, 0.0), (0.25, 2.0, 0.25), (0.0, 2.0, 0.0)]
)
def test_a_share_by_need_is_of_a_gpu_where_there_is_one(wanted: Any, offered: float, given: Any) -> None:
    assert cluster.Cluster({"GPU": offered}, None).gpus_per_trial(wanted) == given


# The garbage of another thread may be collected while Ray ends.
OWN_RAY = """
import os, threading, time
from tune_app.distributed.cluster import Offer, joined, ray

class Cycle:
    def __init__(self, reference):
        self.reference, self.itself = reference, self

def drop():
    while references and not is_over.is_set():
        Cycle(references.pop())
        # Enough garbage for a collection every few turns, and so slow that references are left when Ray has ended.
        for _ in range(100):
            Cycle(None)
        time.sleep(0.002)

references, is_over = [], threading.Event()
thread = threading.Thread(target=drop)
with joined(None, Offer(1, niceness=3)):
    print(f"niceness {ray.get(ray.remote(lambda: os.nice(0)).remote())}")
    references += [ray.put(number) for number in range(10_000)]
    thread.start()
print(f"{len(references) > 0}: they outlived Ray")
is_over.set()
thread.join()
"""


@pytest.fixture(scope="module")
def own_ray() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OWN_RAY]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_worker_niceness"}
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )


@pytest.mark.slow
def test_garbage_of_another_thread_does_not_end_the_process_while_ray_ends(own_ray: Any) -> None:
    assert own_ray.returncode == 0, own_ray.stdout
    assert own_ray.stdout.endswith("True: they outlived Ray\n")


@pytest.mark.slow
def test_workers_have_the_niceness_that_is_asked_for(own_ray: Any) -> None:
    assert own_ray.stdout.startswith("niceness 3\n")
