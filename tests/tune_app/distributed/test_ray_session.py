"""Joining Ray: an absent cluster is an error at once."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.job_config import JobConfig

from tune_app.distributed import ray_session
from tune_app.distributed.addresses import ClusterAddress, cluster_address
from tune_app.distributed.nodes import Node
from tune_app.errors import UserError
from tune_app.study.checkpoints import CheckpointStorage, StudyCheckpoints


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
        ray_session.joined(address if is_given else None, cpus=1).__enter__()


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


def test_workers_do_not_import_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(beside), *sys.path])
    monkeypatch.setattr(sys, "argv", [str(beside / "search.py")])
    job = ray_session._OwnImports()
    # Ray asks this before it adds the working directory.
    assert callable(JobConfig._runtime_env_has_working_dir)
    assert job._runtime_env_has_working_dir()
    assert job._py_driver_sys_path == [str(beside), str(Path(ray_session.__file__).parents[2])]


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

    monkeypatch.setattr(ray_session.ray, "init", start)
    with pytest.raises(UserError):
        ray_session.joined(None, cpus=1).__enter__()
    assert (seen, os.environ.get("PYTHONSAFEPATH")) == (["1"], before)


def test_the_command_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("tokenize", "random", "click", "logging"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('planted')")
    root = str(Path(ray_session.__file__).parents[2])
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

    monkeypatch.setattr(ray_session.ray, "init", start)
    with pytest.raises(UserError, match=r"^Ray does not start on this machine \(The current node timed out .*doctor"):
        ray_session.joined(None, cpus=1).__enter__()


class Taking:
    """Parts of Ray's controller that handle a trial's failure."""

    def __init__(self, *resetting: Any) -> None:
        self._resetting_trials = set(resetting)
        self.steps: list[str] = []

    def _unstage_trial_with_resources(self, trial: Any) -> None:
        self.steps.append("unstaged")

    def _set_trial_status(self, trial: Any, status: str) -> None:
        self.steps.append(status)

    def handle(self, trial: Any, exception: Exception) -> None:
        self.steps.append("handled")


class TakenOver:
    RUNNING = "running"


@pytest.mark.parametrize(
    ("is_resetting", "exception", "steps"),
    [
        (True, RayActorError(), ["unstaged", "running", "handled"]),
        (True, ValueError(), ["handled"]),
        (False, RayActorError(), ["handled"]),
    ],
)
def test_a_worker_that_dies_while_it_takes_a_trial_over_is_no_end_of_the_trial(
    is_resetting: bool, exception: Exception, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session.TuneController, "_trial_task_failure", Taking.handle)
    trial = TakenOver()
    controller = Taking(*[trial] if is_resetting else [])
    with ray_session._deaths_are_the_trials():
        ray_session.TuneController._trial_task_failure(controller, trial, exception)  # type: ignore[arg-type]
    assert controller.steps == steps, "as a running trial it is run again, in another worker"


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


def test_what_names_a_trial_s_folder_carries_the_study_s_id_and_can_be_pickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    class Tuner:
        def __init__(self, trainable: Any, **options: Any) -> None:
            given.update(options)

        def fit(self) -> None: ...

    monkeypatch.setattr(ray_session.tune, "Tuner", Tuner)
    # Messages to a person go through locks, as those of a console do.
    checkpoints = StudyCheckpoints(CheckpointStorage(str(tmp_path)), "checkpoints", "0f" * 16, threading.RLock().__eq__)
    with pytest.raises(TypeError, match="cannot pickle"):
        cloudpickle.dumps(checkpoints)
    ray_session.fit(
        lambda config: None, searcher=None, scheduler=None, callbacks=[], cpus=1, checkpoints=checkpoints, retries=0
    )
    name = cloudpickle.loads(cloudpickle.dumps(given["tune_config"].trial_dirname_creator))
    assert name(SimpleNamespace(config={"number": 7}, trial_id="a")) == f"trial-00007-{'0f' * 16}_a"


COLLECTS_IN_ANOTHER_THREAD = """
import threading, time
from tune_app.distributed.ray_session import joined, ray

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


def test_an_action_is_abandoned_once_ray_is_silent() -> None:
    begun, silent, never = threading.Event(), threading.Event(), threading.Event()

    def wait_for_ray() -> None:
        begun.set()
        silent.set()
        never.wait()

    ray_session._while(lambda: not silent.is_set(), wait_for_ray)
    assert begun.is_set()
    begun.clear()
    ray_session._while(lambda: not silent.is_set(), begun.set)
    assert not begun.is_set(), "Ray was silent from the beginning"


def test_an_error_while_ray_answers_is_raised() -> None:
    def fail() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        ray_session._while(lambda: True, fail)
