"""Joining Ray: what is not there is said at once."""

import socket
import subprocess
import sys
from typing import Any

import pytest

from tune_app.errors import UserError
from tune_app.search import ray_session
from tune_app.search.nodes import Node


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        UserError, match=rf"--address: no Ray cluster answers at 127\.0\.0\.1:{port} .*ray start --head"
    ):
        ray_session.joined(f"127.0.0.1:{port}", cpus=1).__enter__()


def test_a_trial_larger_than_every_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "living_nodes", lambda: [Node("a", "a", 2, 0), Node("b", "b", 3, 0.5)])
    cluster = ray_session.Cluster({"CPU": 5.0, "GPU": 0.5}, None, joined=True)
    cluster.check_fits(cpu=3, gpu=0)
    with pytest.raises(UserError, match=r"resources\.cpu: 4 is more than the 3 that any node of the cluster has here"):
        cluster.check_fits(cpu=4, gpu=0)
    with pytest.raises(UserError, match=r"resources\.gpu: 1 is more than the 0\.5"):
        cluster.check_fits(cpu=1, gpu="auto")
    alone = ray_session.Cluster({"CPU": 2.0}, None)
    with pytest.raises(UserError, match=r"resources\.cpu: 4 is more than the 3 that Ray has here; lower it"):
        alone.check_fits(cpu=4, gpu=0)


@pytest.mark.parametrize(
    ("wanted", "offered", "given"), [("auto", 2.0, "auto"), ("auto", 0.0, 0.0), (0.25, 2.0, 0.25), (0.0, 2.0, 0.0)]
)
def test_a_share_by_need_is_of_a_gpu_where_there_is_one(wanted: Any, offered: float, given: Any) -> None:
    assert ray_session.Cluster({"GPU": offered}, None).gpus_per_trial(wanted) == given


COLLECTS_IN_ANOTHER_THREAD = """
import threading, time
from tune_app.search.ray_session import joined, ray

class Cycle:
    def __init__(self, reference):
        self.reference, self.itself = reference, self

def drop():
    while references and not is_over.is_set():
        Cycle(references.pop())
        time.sleep(0.0001)

references, is_over = [], threading.Event()
thread = threading.Thread(target=drop)
with joined(None, 1):
    references += [ray.put(number) for number in range(10_000)]
    thread.start()
print(f"{len(references) > 0}: they outlived Ray")
is_over.set()
thread.join()
"""


@pytest.mark.slow
def test_garbage_of_another_thread_does_not_end_the_process_while_ray_ends() -> None:
    command = [sys.executable, "-c", COLLECTS_IN_ANOTHER_THREAD]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (0, "True: they outlived Ray\n")
