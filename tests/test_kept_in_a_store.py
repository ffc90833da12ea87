"""Studies kept on S3: their machine is lost, and another resumes them. A real server, real kills."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from trainables.saved import load_model_folder
from tune_app.cli import main
from tune_app.study import remote
from tune_app.study.lease import Lease

CONFIG = """
study: {name: far, dir: "PLACE"}
data: {path: demo, max_rows: 200}
model: {name: tiny-bert}
tok: {max_length: 32}
train: {epochs: 10}
search: {trials: 2, max_concurrent: 1}
scheduler: {name: none}
space:
  optim.lr: {low: 0.0003, high: 0.01, log: true}
"""
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "hush", "region_name": "us-east-1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Wait until a process has made the condition true; fail if the process ends first."""
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)


def answers(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def s3() -> Iterator[Any]:
    """Yield a client of an S3 server of the test's own with the bucket ``studies``."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **KEYS)
        wait_until(lambda: answers(port), server)
        client.create_bucket(Bucket="studies")
        yield client
    finally:
        server.kill()
        server.wait()


def files(s3: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket="studies").get("Contents", [])]


def epochs_kept(s3: Any, trial: int) -> int:
    """Return the epoch from which a trial would resume, as the journal in the store records it."""
    if "runs/far/study.journal" not in files(s3):
        return 0
    journal = s3.get_object(Bucket="studies", Key="runs/far/study.journal")["Body"].read().decode()
    written = re.findall(rf"trial-{trial:05d}-\w+/checkpoint_(\d+)", journal)
    return max(map(int, written)) + 1 if written else 0


def holding(s3: Any, secret: bytes) -> list[str]:
    """Return the files that contain a secret, also in hexadecimal: Ray writes pickled values into JSON that way."""
    contents = {key: s3.get_object(Bucket="studies", Key=key)["Body"].read() for key in files(s3)}
    return [key for key, content in contents.items() if secret in content or secret.hex().encode() in content]


def started(machine: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command on a machine, which shares only the store and the input files with others."""
    environment: Mapping[str, str] = {**os.environ, "XDG_CACHE_HOME": str(machine), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tune_app", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def run_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command in this process as on another machine, and returns its output."""

    def run(machine: Path, *arguments: str) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(machine))
        with pytest.raises(SystemExit) as exited:
            main(list(arguments))
        captured = capsys.readouterr()
        assert exited.value.code == 0, captured.out + captured.err
        return captured.out + captured.err

    return run


@pytest.mark.slow
def test_another_machine_goes_on_with_a_study_whose_own_was_lost(
    s3: Any, ray_with_one_slot: None, run_on: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = s3.meta.endpoint_url.removeprefix("http://")
    place = f"s3://key:hush@studies/runs?endpoint_override={server}&scheme=http&region=us-east-1"
    study = place.replace("/runs", "/runs/far")
    config = tmp_path / "far.yaml"
    config.write_text(CONFIG.replace("PLACE", place))

    search = started(tmp_path / "A", "search", str(config))
    wait_until(lambda: epochs_kept(s3, trial=1) > 1, search)
    search.send_signal(signal.SIGKILL)
    search.communicate(timeout=60)
    reached = epochs_kept(s3, trial=1)
    assert "runs/far/search.lease" in files(s3)
    assert holding(s3, b"hush") == []

    monkeypatch.setattr(remote, "Lease", partial(Lease, silent_s=3.0))
    output = run_on(tmp_path / "B", "search", str(config))
    assert "may be running on the study; waiting 3 s to find out" in output
    assert "hush" not in output
    assert "study far: resumes with 2 trials" in output
    epochs = re.findall(r"trial +(\d) +epoch (\d+):", output)
    assert epochs == [("1", str(epoch)) for epoch in range(reached + 1, 11)]

    status = json.loads(run_on(tmp_path / "C", "status", study, "--json"))
    assert (status["launched"], status["trials"]["complete"]) == (2, 2)
    left_there = files(s3)
    assert "runs/far/study.journal" in left_there
    assert "runs/far/search.lease" not in left_there
    assert len([key for key in left_there if re.search(r"/checkpoints-\w+/.*\.pt$", key)]) >= 2, "of the best epochs"
    assert holding(s3, b"hush") == []

    exported = run_on(tmp_path / "C", "export", study, "--to", str(tmp_path / "out"), "--model")
    assert "model: from the checkpoint of trial" in exported
    assert "hush" not in exported
    assert load_model_folder(tmp_path / "out" / "model").settings.tok.max_length == 32

    assert run_on(tmp_path / "C", "study", "delete", "--yes", study) == "study far was deleted\n"
    assert [key for key in files(s3) if not key.endswith("/")] == []
