"""Session with Ray: starting or joining it without output, and running Tune on it."""

import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

# Ray reads these variables when it is imported or starts its processes, so they are set before the import.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "60",
    # Headroom's own signal handlers end the loop; see interrupts.py.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A kill by Ray's memory monitor would abort the whole search, not only the trial.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # Nothing reads Ray's own record of the search, so writing it once at the end suffices.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # Workers that load tokenizers after a fork would warn about it repeatedly.
    "TOKENIZERS_PARALLELISM": "false",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray._common.utils import get_ray_address_file  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray._private import utils as ray_utils  # noqa: E402
from ray._private import worker as ray_worker  # noqa: E402
from ray.air.execution._internal import RayActorManager  # noqa: E402
from ray.exceptions import RayActorError, RayError, RayTaskError  # noqa: E402
from ray.job_config import JobConfig  # noqa: E402
from ray.tune.execution.tune_controller import TuneController  # noqa: E402
from ray.tune.impl.tuner_internal import TunerInternal  # noqa: E402

from tune_app.distributed.addresses import ClusterAddress, cluster_address  # noqa: E402
from tune_app.distributed.messages import GPU, number_of  # noqa: E402
from tune_app.distributed.nodes import living_nodes  # noqa: E402
from tune_app.distributed.ray_files import check_announced, protect_token, session_in_use, sessions_folder  # noqa: E402
from tune_app.errors import UserError, first_line, without_password  # noqa: E402
from tune_app.study.checkpoints import trial_folder  # noqa: E402
from tune_app.uris import is_store  # noqa: E402

if TYPE_CHECKING:
    from tune_app.search.packing import Gpus
    from tune_app.study.checkpoints import StudyCheckpoints

_LOOPBACK = "127.0.0.1"
_SAFE_PATH = "PYTHONSAFEPATH"
_KNOCK_S = 5.0
_LOOK_S = 0.2
_ANSWER_S = 60.0
_LEAST_OF_A_GPU = 0.01

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """Ray's resources by name, and the address of its dashboard, if it has one.

    ``joined`` is whether the cluster existed before, perhaps with several machines. ``node`` is the id of the node that
    this process runs on.
    """

    resources: dict[str, float]
    dashboard_url: str | None
    joined: bool = False
    node: str = ""

    def gpus_per_trial(self, wanted: "Gpus") -> "Gpus":
        """Return the GPUs of a trial: as wanted, or none if ``auto`` is wanted and there is no GPU."""
        return 0.0 if wanted == "auto" and self.resources.get("GPU", 0) < 1 else wanted

    def most_on_a_node(self, cpus: float) -> int:
        """Return the largest number of trials with so many CPUs that one node of the cluster runs at a time."""
        return max(int(node.cpus // cpus) for node in living_nodes())

    def where_gpus_are(self, question: Callable[[], T]) -> T:
        """Return the result of ``question`` as run where trials with a GPU run: in a GPU worker on a cluster's node.

        The function runs in this process instead if Ray runs on this machine alone, or if no GPU is free at present.
        """
        if not self.joined:
            return question()
        try:
            task = ray.remote(num_cpus=0, num_gpus=_LEAST_OF_A_GPU)(lambda: question())
            answer: T = ray.get(task.remote(), timeout=_ANSWER_S)
            return answer
        except ray.exceptions.GetTimeoutError:
            return question()

    def check_fits(self, *, cpu: float, gpu: "Gpus") -> None:
        """Refuse a trial that could never start; ``auto`` counts as a whole GPU.

        Raises:
            UserError: no node has enough CPUs or GPUs for one trial.
        """
        nodes = living_nodes()
        offers = (
            ("resources.cpu", cpu, max((node.cpus for node in nodes), default=0.0)),
            ("resources.gpu", 1.0 if gpu == "auto" else gpu, max((node.gpus for node in nodes), default=0.0)),
        )
        where = "any node of the cluster" if self.joined else "Ray"
        for setting, wanted, offered in offers:
            if wanted > offered:
                raise UserError(f"{setting}: {wanted:g} is more than the {offered:g} that {where} has here; lower it")


@contextmanager
def joined(address: str | None, cpus: int, gpus: int | None = None) -> Iterator[Cluster]:
    """Start Ray here, or join the cluster at ``address`` or this job's cluster, and leave it at the end.

    If Ray already runs in this process, it is used as it is and left running.

    Args:
        address: address of a cluster; None starts Ray here, unless the environment names a cluster.
        cpus: CPUs to offer if Ray starts here, so that as many trials run at once as wanted.
        gpus: GPUs to claim if Ray starts here, whether or not they exist; None takes those that Ray finds.

    Raises:
        UserError: there is no cluster at ``address``, or Ray does not start here, for example because no folder is
            suitable for its files.
    """
    if ray.is_initialized():
        yield Cluster(dict(ray.cluster_resources()), None)
        return
    cluster = cluster_address(address)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": False}
    options["job_config"] = _OwnImports()
    if cluster is not None:
        if cluster.address == "auto":
            check_announced(Path(get_ray_address_file(None)), cluster.setting)
        require_listener(cluster)
        options["address"] = address
    else:
        options |= {"address": "local", "num_cpus": cpus, "num_gpus": gpus}
        options |= {"include_dashboard": True, "dashboard_host": _LOOPBACK, "_temp_dir": str(sessions_folder())}
    protect_token(may_make=cluster is None)
    try:
        _keep_off_the_screen()
        with _passwords_kept(), _working_directory_off_the_path(), nullcontext() if cluster else _on_loopback(options):
            context = ray.init(**options)
    except Exception as error:  # Ray raises a plain Exception if its start takes too long.
        if cluster is None:
            _leave()
            raise _not_started(error) from error
        if not isinstance(error, ConnectionError | ValueError | RuntimeError):
            raise
        raise cluster.absent(error) from None
    try:
        node = str(ray.get_runtime_context().get_node_id())
        with nullcontext() if cluster else session_in_use(_session_folder()):
            yield Cluster(
                dict(ray.cluster_resources()), context.dashboard_url or None, joined=cluster is not None, node=node
            )
    finally:
        _leave()


def _session_folder() -> Path:
    assert ray_worker.global_worker.node is not None
    return Path(ray_worker.global_worker.node.get_session_dir_path())


def _leave() -> None:
    """Shut Ray down, or leave the cluster. If Ray no longer answers, only kill its processes.

    Garbage collection is disabled meanwhile. It may run in another thread, such as MLflow's, and collect Ray's own
    objects. Ray ends a process that uses it during its shutdown, with exit code 1.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        if not ray.is_initialized() or (not dead_processes() and _in_time(living_nodes)):
            ray.shutdown()
        else:
            _abandon()
    finally:
        if was_enabled:
            gc.enable()


def _abandon() -> None:
    node = ray_worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    _in_time(ray.shutdown)


def _in_time(action: Callable[[], object]) -> bool:
    """Run an action that may wait forever for Ray, and return whether it ended in time."""
    doing = threading.Thread(target=action, daemon=True)
    doing.start()
    doing.join(_KNOCK_S)
    return not doing.is_alive()


def _while(answers: Callable[[], bool], action: Callable[[], object]) -> None:
    """Run an action that may wait forever for Ray, and abandon it once Ray no longer answers."""
    errors: list[BaseException] = []

    def do() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    doing = threading.Thread(target=do, daemon=True)
    if answers():
        doing.start()
    while doing.is_alive() and answers():
        doing.join(_LOOK_S)
    # An abandoned action fails because Ray is gone, which the caller knows.
    if errors and answers():
        raise errors[0]


@contextmanager
def _on_loopback(options: dict[str, Any]) -> Iterator[None]:
    """Make a Ray that is started in the block listen on this machine alone.

    By default, Ray listens on every interface, even if it serves one machine. It accepts the loopback address only in a
    mode for machines whose firewalls would ask a person.
    """
    options["_node_ip_address"] = _LOOPBACK
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


# Ray keeps running without its other processes, which serve its pages and logs.
_NEEDED = (ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER)


def dead_processes() -> list[str]:
    """Return the names of dead processes that Ray needs and that this process started."""
    node = ray_worker._global_node
    return [] if node is None else [name for name, _ in node.dead_processes() if name in _NEEDED]


def _keep_off_the_screen() -> None:
    """Suppress Ray's own output: headroom reports a worker's end in one line instead."""
    ray_worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _passwords_kept() -> Iterator[None]:
    """Hide passwords from Ray, which records the command line that starts or joins it and shows it to everyone."""
    as_it_is = ray_utils.get_entrypoint_name
    ray_utils.get_entrypoint_name = lambda: without_password(as_it_is())  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        ray_utils.get_entrypoint_name = as_it_is


@contextmanager
def _working_directory_off_the_path() -> Iterator[None]:
    """Keep processes that are started in the block, and theirs, from importing files of the working directory."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def require_listener(cluster: ClusterAddress) -> None:
    """Check that something answers at a cluster's address; Ray itself would try for minutes before it gives up.

    Raises:
        UserError: nothing answers.
    """
    host, _, port = cluster.address.removeprefix("ray://").rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise cluster.absent(error) from None


class _OwnImports(JobConfig):
    """Job configuration whose workers import only installed modules and those beside the script that searches.

    By default, Ray puts the driver's working directory first on its workers' import path. A file there with a library's
    name, such as tokenize.py, would replace the library.
    """

    def __init__(self) -> None:
        # Headroom may be run from a source tree that is not installed.
        paths = [str(Path(__file__).parents[2])]
        script = os.path.dirname(os.path.realpath(sys.argv[0]))
        # Like Ray, leave out the script's folder if the script was run by its module name.
        super().__init__(_py_driver_sys_path=[script, *paths] if script in sys.path else paths)

    def _runtime_env_has_working_dir(self) -> bool:
        # Ray calls this only to decide whether to add the working directory.
        return True


def _not_started(error: Exception) -> UserError:
    return UserError(
        f"Ray does not start on this machine ({first_line(error)}); see headroom doctor, and run the same command again"
        " when the machine is less busy"
    )


def fit(
    trainable: Callable[[Mapping[str, Any]], None],
    *,
    searcher: Any,
    scheduler: Any,
    callbacks: list[Any],
    cpus: int,
    checkpoints: "StudyCheckpoints",
    retries: int,
    answers: Callable[[], bool] = lambda: True,
) -> None:
    """Run Tune's loop until the searcher has nothing left to suggest and every trial has ended, or a signal arrives.

    Every trial gets ``cpus`` and the GPUs that its configuration names. The study holds the trials' outcomes; Tune's
    own result says less.

    Args:
        checkpoints: checkpoints of the study, where those of the trials are copied.
        retries: number of times to run a trial again whose worker died.
        answers: returns whether Ray still answers.
    """
    storage = checkpoints.storage
    filesystem, place = storage.opened()

    def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        gpus = config.get(GPU, 0)
        return tune.PlacementGroupFactory([{"CPU": cpus, **({"GPU": gpus} if gpus else {})}])

    # Ray pickles the function with everything it refers to, so it refers to the id alone.
    study_id = checkpoints.study_id

    def folder_of(trial: Any) -> str:
        return trial_folder(number_of(trial), study_id, trial.trial_id)

    tune_config = tune.TuneConfig(
        search_alg=searcher,
        scheduler=scheduler,
        # The searcher counts the trials: Tune would count retried and resumed trials differently from the study.
        num_samples=-1,
        reuse_actors=True,
        trial_dirname_creator=folder_of,
        trial_name_creator=folder_of,
    )
    run_config = tune.RunConfig(
        storage_path=place,
        storage_filesystem=None if filesystem.type_name == "local" else filesystem,
        name=checkpoints.folder,
        callbacks=callbacks,
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=retries),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=None),
        log_to_file=False,
    )
    try:
        with storage.told():
            trial = tune.with_resources(trainable, resources)
            with _unrecorded(), _deaths_are_the_trials(), _ended_while(answers):
                tune.Tuner(trial, tune_config=tune_config, run_config=run_config).fit()
    finally:
        # If a store does not answer now, some small files that nobody reads stay there.
        with suppress(OSError) if is_store(storage.place) else nullcontext():
            checkpoints.remove_rays_records()


@contextmanager
def _unrecorded() -> Iterator[None]:
    """Prevent Ray from writing a Tuner's arguments and the state of a search to the storage.

    The study is the record, and a Tuner's arguments may contain the keys of its storage.
    """
    given, state = TunerInternal.__getstate__, TuneController.save_to_dir

    def save_nothing(self: TuneController) -> None:
        assert self._storage is not None
        # Ray needs the file at the end, and reads it if no trial was launched.
        folder = Path(self._storage.experiment_driver_staging_path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.experiment_state_file_name).write_text('{"trial_data": []}')

    TunerInternal.__getstate__ = lambda self: {}  # type: ignore[method-assign]
    TuneController.save_to_dir = save_nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        TunerInternal.__getstate__ = given  # type: ignore[method-assign]
        TuneController.save_to_dir = state  # type: ignore[method-assign]


class WorkerTaken(RayActorError):
    """Error of a lost worker for which Ray has no actor error: killed by its memory monitor, or lost with its node."""


@contextmanager
def _deaths_are_the_trials() -> Iterator[None]:
    """Make every loss of a worker fail only its trial, which is then run again, whatever error Ray raises and when.

    Ray's loop handles actor and task errors. Any other error of a worker ends the whole loop, above all a kill by a
    node's memory monitor for lack of host memory. A trial whose reused worker dies while taking it over would fail
    without being run again.
    """
    as_it_is, trial_failed = RayActorManager._actor_task_failed, TuneController._trial_task_failure

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = WorkerTaken(error_msg=f"{type(exception).__name__}: {' '.join(str(exception).split())}")
        as_it_is(self, tracked_actor_task, exception)

    def failed_while_taken_over(self: TuneController, trial: Any, exception: Exception) -> None:
        if trial in self._resetting_trials and isinstance(exception, RayActorError):
            # Do the same as Ray does if a new worker dies before it is ready.
            self._resetting_trials.discard(trial)
            self._unstage_trial_with_resources(trial)
            self._set_trial_status(trial, trial.RUNNING)
        trial_failed(self, trial, exception)

    RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]
    TuneController._trial_task_failure = failed_while_taken_over  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = as_it_is  # type: ignore[method-assign]
        TuneController._trial_task_failure = trial_failed  # type: ignore[method-assign]


@contextmanager
def _ended_while(answers: Callable[[], bool]) -> Iterator[None]:
    """Make Ray's loop end its workers only while Ray answers; otherwise it would wait for answers that never arrive.

    A service manager or batch system signals every process at once, so that Ray dies while its loop ends the workers.
    """
    as_it_is = TuneController.cleanup

    def cleanup(self: TuneController) -> None:
        _while(answers, lambda: as_it_is(self))  # type: ignore[no-untyped-call]

    TuneController.cleanup = cleanup  # type: ignore[method-assign]
    try:
        yield
    finally:
        TuneController.cleanup = as_it_is  # type: ignore[method-assign]
