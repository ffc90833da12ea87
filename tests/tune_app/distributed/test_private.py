"""Ray's private names: each exists as a search relies on it, and one module uses them."""

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._common import utils as common_utils
from ray._private import node, ray_constants, services, worker
from ray._private import utils as ray_utils
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError
from ray.job_config import JobConfig
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.impl.tuner_internal import TunerInternal
from ray.tune.schedulers import HyperBandScheduler
from ray.tune.schedulers.hyperband import _Bracket

from tune_app.distributed import private

FOLDER = Path(private.__file__).parent

# Every function whose parameters a search relies on, without ``self``.
SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (common_utils.get_ray_address_file, ["temp_dir"]),
    (ray_utils.get_entrypoint_name, []),
    (worker.print_to_stdstream, ["data", "ignore_prefix"]),
    (node.Node.get_session_dir_path, []),
    (node.Node.dead_processes, []),
    (node.Node.kill_all_processes, ["check_alive", "allow_graceful", "wait"]),
    (JobConfig._runtime_env_has_working_dir, []),
    (TunerInternal.__getstate__, []),
    (TuneController.save_to_dir, []),
    (TuneController.cleanup, []),
    (TuneController._trial_task_failure, ["trial", "exception"]),
    (TuneController._unstage_trial_with_resources, ["trial"]),
    (TuneController._set_trial_status, ["trial", "status"]),
    (RayActorManager._actor_task_failed, ["tracked_actor_task", "exception"]),
    (HyperBandScheduler._create_bracket, ["s"]),
    (HyperBandScheduler._process_bracket, ["tune_controller", "bracket"]),
    (
        _Bracket.__init__,
        ["time_attr", "max_trials", "init_t_attr", "max_t_attr", "eta", "s", "stop_last_trials"],
    ),
    (_Bracket.filled, []),
    (_Bracket.current_trials, []),
    (_Bracket.continue_trial, ["trial"]),
]


@pytest.mark.parametrize(
    ("function", "parameters"), SIGNATURES, ids=[function.__qualname__ for function, _ in SIGNATURES]
)
def test_a_private_function_takes_what_it_is_given(function: Callable[..., Any], parameters: list[str]) -> None:
    assert [name for name in inspect.signature(function).parameters if name != "self"] == parameters


def test_the_names_were_read_in_this_version() -> None:
    assert f"Ray {version('ray')}" in (private.__doc__ or ""), "read tune_app/distributed/private.py against it"


def test_ray_init_takes_the_private_options() -> None:
    source = inspect.getsource(ray.init)
    for option in ("_node_ip_address", "_temp_dir"):
        assert option in source
    assert "_py_driver_sys_path" in inspect.signature(JobConfig).parameters


def test_ray_reads_what_is_replaced_for_it() -> None:
    """A name that Ray imported elsewhere, or no longer reads, could be replaced without an effect."""
    assert "ray_constants.ENABLE_RAY_CLUSTER" in inspect.getsource(services)
    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)
    assert "ray._private.utils.get_entrypoint_name()" in inspect.getsource(worker)
    assert "print_to_stdstream(" in inspect.getsource(worker)
    assert {ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER} == {"raylet", "gcs_server"}
    assert hasattr(worker, "_global_node")
    assert hasattr(worker.global_worker, "node")


def test_ray_s_loop_has_the_state_that_is_read() -> None:
    source = inspect.getsource(TuneController.__init__)
    for name in ("_resetting_trials", "_storage"):
        assert f"self.{name}" in source
    assert isinstance(TuneController.experiment_state_file_name, property)


def test_hyperband_and_a_trial_have_the_state_that_is_read() -> None:
    band = HyperBandScheduler(time_attr="step", metric="value", mode="max", max_t=9)
    assert (band._time_attr, band._max_t_attr, band._eta, band._stop_last_trials) == ("step", 9, 3, True)
    assert (band._get_n0(0), band._get_r0(0), band._trial_info) == (3, 9, {})
    bracket = band._create_bracket(0)
    assert (bracket._n0, bracket._all_trials, bracket.is_being_processed) == (3, [], False)
    assert private.worker_of(Trial("trial", stub=True)) is None


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yield private modules that are imported, and private attributes of anything but ``self``, ``cls`` and ``os``."""
    for found in ast.walk(tree):
        if isinstance(found, ast.ImportFrom) and found.module and found.module.split(".")[0] == "ray":
            names = [*found.module.split("."), *(alias.name for alias in found.names)]
            yield from (name for name in names if name.startswith("_") or name in ("impl", "execution"))
        if isinstance(found, ast.Attribute) and found.attr.startswith("_") and not found.attr.startswith("__"):
            owner = found.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls", "os")) and "super" not in ast.unparse(
                owner
            ):
                yield ast.unparse(found)


def test_one_module_uses_private_names() -> None:
    used = {file.name: sorted(private_names(ast.parse(file.read_text()))) for file in FOLDER.glob("*.py")}
    assert len(used["private.py"]) > 10
    del used["private.py"]
    assert {name: names for name, names in used.items() if names} == {}


def test_workers_do_not_import_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(beside), *sys.path])
    monkeypatch.setattr(sys, "argv", [str(beside / "search.py")])
    job = private.OwnImports()
    assert job._runtime_env_has_working_dir()
    assert job._py_driver_sys_path == [str(beside), str(Path(private.__file__).parents[2])]


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
    monkeypatch.setattr(private.TuneController, "_trial_task_failure", Taking.handle)
    trial = TakenOver()
    controller = Taking(*[trial] if is_resetting else [])
    with private.deaths_are_the_trials():
        private.TuneController._trial_task_failure(controller, trial, exception)  # type: ignore[arg-type]
    assert controller.steps == steps, "as a running trial it is run again, in another worker"
