"""A study that is kept on S3: its machine is lost, and another goes on with it. A real server, real kills."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

CONFIG = """
study: {name: far, dir: "PLACE"}
data: {path: demo, max_rows: 200}
model: {name: tiny-bert}
tok: {max_length: 32}
train: {epochs: 6}
search: {trials: 2, max_concurrent: 1}
scheduler: {name: none}
space:
  optim.lr: {low: 0.0003, high: 0.01, log: true}
"""
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_it_answers(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        with socket.socket() as knocking:
            if not knocking.connect_ex(("127.0.0.1", port)):
                return
        assert server.poll() is None, "the server ended"
        assert time.monotonic() < end, "the server does not answer"
        time.sleep(0.1)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a server of the test's own with the bucket ``studies``."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        wait_until_it_answers(port, server)
        client.create_bucket(Bucket="studies")
        yield client
    finally:
        server.kill()
        server.wait()


def files(s3: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket="studies").get("Contents", [])]


def started(machine: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command on a machine: it shares nothing with others but the store and what is read."""
    environment: Mapping[str, str] = {**os.environ, "XDG_CACHE_HOME": str(machine), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tune_app", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def output_of(machine: Path, *arguments: str) -> str:
    command = started(machine, *arguments)
    output, _ = command.communicate(timeout=300)
    assert command.returncode == 0, output
    return output


@pytest.mark.slow
def test_another_machine_goes_on_with_a_study_whose_own_was_lost(s3: Any, tmp_path: Path) -> None:
    place = f"s3://studies/runs?endpoint_override={s3.meta.endpoint_url.removeprefix('http://')}&scheme=http"
    study = place.replace("/runs", "/runs/far")
    config = tmp_path / "far.yaml"
    config.write_text(CONFIG.replace("PLACE", place))

    search = started(tmp_path / "A", "search", str(config))
    assert search.stdout is not None
    for line in search.stdout:
        if re.match(r"trial +1 +epoch 3:", line):
            break
    search.send_signal(signal.SIGKILL)
    search.communicate(timeout=60)
    assert "runs/far/search.lease" in files(s3)

    # What it left would be waited for; that has tests of its own.
    (left,) = (tmp_path / "A").rglob("search.holder")
    there = tmp_path / "B" / left.parent.relative_to(tmp_path / "A")
    there.mkdir(parents=True)
    shutil.copy(left, there)
    output = output_of(tmp_path / "B", "search", str(config))
    assert "study far: resumes with 2 trials" in output
    epochs = re.findall(r"trial +(\d) +epoch (\d):", output)
    assert epochs[0] in (("1", "3"), ("1", "4")), "the epoch in hand is repeated at most"
    assert epochs[-1] == ("1", "6")
    assert {number for number, _ in epochs} == {"1"}

    status = json.loads(output_of(tmp_path / "C", "status", study, "--json"))
    assert (status["launched"], status["trials"]["complete"]) == (2, 2)
    left_there = files(s3)
    assert "runs/far/study.journal" in left_there
    assert "runs/far/search.lease" not in left_there
    assert len([key for key in left_there if re.search(r"/checkpoints-\w+/.*\.pt$", key)]) >= 2, "of the best epochs"
    assert not [key for key in left_there if b"hush" in s3.get_object(Bucket="studies", Key=key)["Body"].read()]

    assert output_of(tmp_path / "C", "study", "delete", "--yes", study) == "study far was deleted\n"
    assert [key for key in files(s3) if not key.endswith("/")] == []
