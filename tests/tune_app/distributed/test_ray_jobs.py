"""Search as a job on a cluster that ``ray start`` made: with tokens, and a worker without access to the head's files.

The head has no room for trials. The worker runs in a separate mount namespace, where the data, the model and Ray's own
files differ from the head's. Only the folder of the studies is the same in both.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from trainables.data.demo import demo_rows
from tune_app import load_config, train
from tune_app.cli import cli

pytestmark = pytest.mark.slow

PATIENCE_S = 180
BIN = Path(sys.executable).parent
RAYJOB = Path(__file__).parents[3] / "scripts" / "cluster" / "rayjob.yaml"
SMALL = {
    "data.max_rows": "100",
    "tok.max_length": "32",
    "train.epochs": "2",
    "scheduler.name": "none",
    "space.model.name": "null",
    "space.tok.max_length": "null",
}


@dataclass
class Ran:
    code: int
    output: str


class StorageLocation:
    """Folders of the head and of the worker, and their cluster."""

    def __init__(self, folder: Path, rays: Path) -> None:
        self.rays = rays / "ray"
        self.rays.mkdir()
        self.own, self.shared, self.worker_cache = folder / "own", folder / "shared", folder / "worker"
        for made in (self.own, self.shared, self.worker_cache, folder / "home"):
            made.mkdir()
        self.port, self.pages_port = free_port(), free_port()
        self.environ = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "HOME": str(folder / "home"),
            # A job joins the cluster that this folder names, and Ray's other sessions on a machine share one folder.
            "RAY_TMPDIR": str(rays),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.pages_port}",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        documents = {document["kind"]: document for document in YAML(typ="safe").load_all(RAYJOB.read_text())}
        config = self.own / "search.yaml"
        config.write_text(documents["ConfigMap"]["data"]["search.yaml"].replace("/studies", str(self.shared)))
        settings = {**SMALL, "data.path": f"{self.own}/demo.csv", "model.name": f"{self.own}/model"}
        self.search = [
            *documents["RayJob"]["spec"]["entrypoint"].replace("/etc/headroom", str(self.own)).split(),
            *(option for name, value in settings.items() for option in ("-s", f"{name}={value}")),
        ]

    def run(self, *command: str) -> Ran:
        ran = subprocess.run(
            command,
            env=self.environ,
            cwd=self.own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        return Ran(ran.returncode, ran.stdout)

    def submit(self, *command: str, wait: bool = True) -> Ran:
        """Submit a job with a working directory, as people do, and return its outcome."""
        working = self.own / "working"
        working.mkdir(exist_ok=True)
        # A new working directory each time: Ray may be deleting the package of an earlier job, and not send it again.
        (working / "note.txt").write_text(f"something to bring {secrets.token_hex(8)}")
        submitted = ("ray", "job", "submit", "--working-dir", str(working), *([] if wait else ["--no-wait"]), "--")
        return self.run(*submitted, *command)

    def status(self) -> dict[str, Any]:
        """Return the study's status, as the files in the shared folder tell it."""
        run_dir = self.shared / "runs" / "criteria"
        shown = CliRunner().invoke(cli, ["status", str(run_dir), "--json"], catch_exceptions=False)
        assert shown.exit_code == 0, shown.output
        return dict(json.loads(shown.stdout))

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.own / f"{len(list(self.own.glob('*.log')))}.log").open("wb") as log:
            return subprocess.Popen(
                command, env=self.environ, cwd=self.own, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )


def free_port() -> int:
    with socket.socket() as knocking:
        knocking.bind(("127.0.0.1", 0))
        return int(knocking.getsockname()[1])


def own_agent() -> list[str]:
    """Return options that give Ray's agent a free port; by default all nodes on a machine use the same one."""
    return ["--block", "--dashboard-agent-listen-port", str(free_port())]


def may_hide_folders() -> bool:
    """Return True if a process may have its own mounts here: root may, unless a container forbids it."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return tried.returncode == 0


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def rays() -> Iterator[Path]:
    """Return a folder for Ray's files with a short path: sockets lie in it, and their paths may not be long."""
    with tempfile.TemporaryDirectory(prefix="hr-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, rays: Path) -> Iterator[StorageLocation]:
    if not may_hide_folders():
        pytest.skip("no mount namespaces here: two nodes of one machine would share all their files")
    place = StorageLocation(tmp_path_factory.mktemp("cluster"), rays)
    demo_rows().to_csv(place.own / "demo.csv")
    first = {"study": {"name": "first"}, "data": {"path": f"{place.own}/demo.csv", "max_rows": 60}}
    train(
        load_config({**first, "model": {"name": "tiny-bert"}, "tok": {"max_length": 32}, "train": {"epochs": 1}}),
        place.own / "model",
        quiet=True,
    )
    address = f"127.0.0.1:{place.port}"
    pages = ("--dashboard-host", "127.0.0.1", "--dashboard-port", str(place.pages_port))
    started = [
        place.start("ray", "start", "--head", "--port", str(place.port), "--num-cpus", "0", *pages, *own_agent())
    ]
    try:
        # Every attempt starts a program, so first wait until the pages answer; Ray's job server starts last.
        wait_for_port(place.pages_port)
        wait_for(lambda: place.run("ray", "job", "submit", "--", "true"))
        hidden = " && ".join(f"mount -t tmpfs tmpfs {folder}" for folder in (place.own, place.rays))
        join = f"cd / && XDG_CACHE_HOME={place.worker_cache} exec ray start --address {address} --num-cpus 2"
        started.append(place.start("unshare", "-m", "sh", "-c", f"{hidden} && {join} {' '.join(own_agent())}"))
        wait_for(lambda: place.run("ray", "list", "nodes", "--filter", "state=ALIVE", "--filter", "is_head_node=false"))
        yield place
    finally:
        end(started)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not listens(port):
        assert time.monotonic() < deadline, f"nothing listens at port {port}"
        time.sleep(0.2)


def listens(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def wait_for(ready: Callable[[], Ran]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (ran := ready()).code != 0:
        assert time.monotonic() < deadline, ran.output
        time.sleep(1)


def test_the_job_on_kubernetes_sends_data_and_model_to_nodes_that_do_not_have_them(place: StorageLocation) -> None:
    ran = place.submit(*place.search, "--trials", "1")
    assert ran.code == 0, ran.output
    assert place.status()["trials"] == {
        "complete": 1, "stopped": 0, "oom": 0, "infeasible": 0, "failed": 0, "running": 0, "interrupted": 0
    }  # fmt: skip
    sent = place.worker_cache / "headroom" / "sent"
    assert [file.name for file in sent.glob("*/*.csv")] == ["demo.csv"]
    assert len(list(sent.glob("*/model.safetensors"))) == 1
    tokens = place.shared / "runs" / "criteria" / "cache"
    (prepared,) = tokens.glob("*/texts.ids.npy")
    (there,) = sent.glob(f"*-cache/{prepared.relative_to(tokens)}")
    assert there.stat().st_mtime_ns > prepared.stat().st_mtime_ns
    assert there.read_bytes() == prepared.read_bytes()


def test_a_job_that_is_submitted_again_goes_on_and_its_status_is_read_while_it_runs(place: StorageLocation) -> None:
    again = place.submit(*place.search, "--trials", "2", wait=False)
    assert again.code == 0, again.output
    seen = []
    deadline = time.monotonic() + PATIENCE_S
    while not seen or seen[-1]["complete"] < 2:
        assert time.monotonic() < deadline, place.run("ray", "job", "list").output
        seen.append(place.status()["trials"])
        time.sleep(0.5)
    assert any(trials["running"] for trials in seen)
    assert seen[0]["complete"] == 1


def test_doctor_looks_at_every_node(place: StorageLocation) -> None:
    ran = place.run("headroom", "doctor", "--address", f"127.0.0.1:{place.port}", "--dir", str(place.own), "--json")
    found = [finding for finding in json.loads(ran.output)["findings"] if finding["subject"].startswith("node ")]
    head, worker = found
    assert (ran.code, head["state"], worker["state"]) == (1, "ok", "problem")
    assert "files written here do not arrive there" in worker["found"]
    shared = place.run("headroom", "doctor", "--address", f"127.0.0.1:{place.port}", "--dir", str(place.shared))
    assert f"2 CPUs, no GPUs; reaches {place.shared}" in shared.output


def test_a_place_that_a_node_does_not_reach_is_refused_before_the_first_trial(place: StorageLocation) -> None:
    search = [
        *place.search,
        "--trials",
        "1",
        "--address",
        f"127.0.0.1:{place.port}",
        "-s",
        f"study.dir={place.own}/runs",
    ]
    ran = place.run(*search)
    assert ran.code == 2
    assert f"study.dir: {place.own}/runs is not in reach of node " in ran.output
    assert "checkpoint.keep=none" in ran.output
    assert not (place.own / "runs").exists()
    without = place.run(*search, "-s", "checkpoint.keep=none")
    assert without.code == 0, without.output
    assert not list((place.own / "runs" / "criteria" / "checkpoints").rglob("checkpoint_*"))
