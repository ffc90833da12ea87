"""Starting Ray or joining it, quietly, and running Tune on it."""

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

# Read by Ray when it is imported or when it starts its processes, so they come before the import.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "60",
    # Our own handlers end the loop; see interrupts.py.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A kill by Ray's memory monitor would abort the whole search, not the trial alone.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray's own record of the search, which nothing reads: once at the end is often enough.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # Workers that load tokenizers after a fork would warn about it again and again.
    "TOKENIZERS_PARALLELISM": "false",
    # What Ray's processes start imports nothing from the working directory.
    "PYTHONSAFEPATH": "1",
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

from tune_app.errors import UserError, first_line, without_password  # noqa: E402
from tune_app.search.addresses import ClusterAddress, cluster_address  # noqa: E402
from tune_app.search.messages import GPU  # noqa: E402
from tune_app.search.nodes import living_nodes  # noqa: E402
from tune_app.search.ray_files import check_announced, protect_token, session_in_use, sessions_folder  # noqa: E402
from tune_app.study.checkpoints import trial_folder  # noqa: E402
from tune_app.uris import is_store  # noqa: E402

if TYPE_CHECKING:
    from tune_app.search.packing import Gpus
    from tune_app.study.checkpoints import StudyCheckpoints

_LOOPBACK = "127.0.0.1"
_KNOCK_S = 5.0
_ANSWER_S = 60.0
_LEAST_OF_A_GPU = 0.01

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """What Ray offers: its resources by name, and where its dashboard is, if it has one.

    ``joined`` tells a cluster that was there before, perhaps of several machines. ``node`` is the one that this process
    runs on.
    """

    resources: dict[str, float]
    dashboard_url: str | None
    joined: bool = False
    node: str = ""

    def gpus_per_trial(self, wanted: "Gpus") -> "Gpus":
        """The GPUs of a trial: as asked for; none where a share by need is asked for and there is no GPU."""
        return 0.0 if wanted == "auto" and self.resources.get("GPU", 0) < 1 else wanted

    def most_on_a_node(self, cpus: float) -> int:
        """How many trials of so many CPUs run on one machine of the cluster at a time, at most."""
        return max(int(node.cpus // cpus) for node in living_nodes())

    def where_gpus_are(self, question: Callable[[], T]) -> T:
        """What ``question`` answers where trials with a GPU run: in a worker with a GPU on some node of a cluster.

        It is asked in this process where Ray runs on this machine alone, or where nothing of a GPU is free for now.
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
        """Refuse a trial that no amount of waiting would start; ``auto`` gives it a whole GPU at most.

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
    """Start Ray here, or join the cluster at ``address`` or the one whose job this is; leave it at the end.

    Ray that the caller has started in this process already is used as it is, and left running.

    Args:
        cpus: to offer where Ray is started here, so that as many trials run at once as are wanted.
        gpus: to claim there, whether or not they exist; None takes those that Ray finds.

    Raises:
        UserError: there is no cluster at ``address``, or Ray does not start here: no folder will do for its files, say.
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
        with _passwords_kept(), nullcontext() if cluster else _on_loopback(options):
            context = ray.init(**options)
    except Exception as error:  # A start that takes Ray too long raises nothing narrower.
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
    """End Ray, or leave the cluster; of a Ray that does not answer any more only the processes are ended.

    Meanwhile no garbage is collected: another thread, such as MLflow's, would do that too, and would find Ray's
    own objects among it. Ray ends a process, with exit code 1, that touches it while it ends.
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
    """Do what may wait for an answer of Ray for ever; return whether it came."""
    doing = threading.Thread(target=action, daemon=True)
    doing.start()
    doing.join(_KNOCK_S)
    return not doing.is_alive()


@contextmanager
def _on_loopback(options: dict[str, Any]) -> Iterator[None]:
    """Have the processes of a Ray that is started inside listen on this machine alone.

    Left to itself Ray listens on every interface, also where it serves one machine. It has a mode for machines whose
    firewalls ask a person about that, and takes the loopback address in that mode alone.
    """
    options["_node_ip_address"] = _LOOPBACK
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


# Without the others of its processes, those of its pages and logs, Ray runs on.
_NEEDED = (ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER)


def dead_processes() -> list[str]:
    """Return the names of the processes that Ray needs, that this process started, and that have died."""
    node = ray_worker._global_node
    return [] if node is None else [name for name, _ in node.dead_processes() if name in _NEEDED]


def _keep_off_the_screen() -> None:
    """Have Ray print nothing of its own: what it says of a worker's end at length is said in a line of ours."""
    ray_worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _passwords_kept() -> Iterator[None]:
    """Keep passwords from Ray, which records the command line of whoever starts or joins it and shows it to all."""
    as_it_is = ray_utils.get_entrypoint_name
    ray_utils.get_entrypoint_name = lambda: without_password(as_it_is())  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        ray_utils.get_entrypoint_name = as_it_is


def require_listener(cluster: ClusterAddress) -> None:
    """See whether anything answers at a cluster's address; Ray itself knocks for minutes before it gives up.

    Raises:
        UserError: nothing does.
    """
    host, _, port = cluster.address.removeprefix("ray://").rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise cluster.absent(error) from None


class _OwnImports(JobConfig):
    """A job whose workers import what is installed, and what lies beside the script that searches.

    Left to itself Ray puts the driver's working directory first on its workers' import path, and a file there that
    bears a library's name, such as tokenize.py, takes the library's place.
    """

    def __init__(self) -> None:
        # Headroom may be run from a source tree that is not installed.
        paths = [str(Path(__file__).parents[2])]
        script = os.path.dirname(os.path.realpath(sys.argv[0]))
        # As Ray does: a script that is run by its module's name has no folder of its own.
        super().__init__(_py_driver_sys_path=[script, *paths] if script in sys.path else paths)

    def _runtime_env_has_working_dir(self) -> bool:
        # Asked before Ray adds the working directory, and for nothing else.
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
    is_lost: Callable[[], bool] = lambda: False,
) -> None:
    """Run Tune's loop until the searcher has nothing more to suggest and every trial has ended, or a signal came.

    Every trial is given ``cpus`` and the GPUs that its configuration names. What became of the trials is in the study;
    Tune's own result says less.

    Args:
        checkpoints: of the study; trials' are copied there.
        retries: how often a trial is run again whose worker died.
        is_lost: returns whether Ray is there no more.
    """
    storage = checkpoints.storage
    filesystem, place = storage.opened()

    def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        gpus = config.get(GPU, 0)
        return tune.PlacementGroupFactory([{"CPU": cpus, **({"GPU": gpus} if gpus else {})}])

    # Ray pickles the function, and what it refers to with it.
    study_id = checkpoints.study_id

    def folder_of(trial: Any) -> str:
        return trial_folder(int(trial.config["number"]), study_id, trial.trial_id)

    tune_config = tune.TuneConfig(
        search_alg=searcher,
        scheduler=scheduler,
        # The searcher counts; Tune would count retried and resumed trials otherwise than the study does.
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
            with _unrecorded(), _deaths_are_the_trials(), _left_as_it_is_once(is_lost):
                tune.Tuner(trial, tune_config=tune_config, run_config=run_config).fit()
    finally:
        # A store that does not answer now keeps some small files that nobody reads.
        with suppress(OSError) if is_store(storage.place) else nullcontext():
            checkpoints.remove_rays_records()


@contextmanager
def _unrecorded() -> Iterator[None]:
    """Have Ray write into the storage neither what a Tuner is given nor the state of a search.

    The study is the record, and among what a Tuner is given may be keys: those by which its storage is reached.
    """
    given, state = TunerInternal.__getstate__, TuneController.save_to_dir

    def save_nothing(self: TuneController) -> None:
        assert self._storage is not None
        # The file itself Ray wants to find at the end, and where no trial was launched, reads.
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
    """A worker's end for which Ray has no actor's error: taken by its memory monitor, or with what the node held."""


@contextmanager
def _deaths_are_the_trials() -> Iterator[None]:
    """Have the end of a worker be that of its trial, which is run again, however Ray calls it, and whenever it comes.

    Ray's loop knows errors of an actor and of a task. What else it is told of a worker, first of all that a node's
    memory monitor took it for want of host memory, ends the whole loop. A trial whose worker, used before, dies while
    it takes the trial over would fail without being run again.
    """
    as_it_is, trial_failed = RayActorManager._actor_task_failed, TuneController._trial_task_failure

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = WorkerTaken(error_msg=f"{type(exception).__name__}: {' '.join(str(exception).split())}")
        as_it_is(self, tracked_actor_task, exception)

    def failed_while_taken_over(self: TuneController, trial: Any, exception: Exception) -> None:
        if trial in self._resetting_trials and isinstance(exception, RayActorError):
            # What Ray does where a new worker dies before it is ready.
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
def _left_as_it_is_once(is_lost: Callable[[], bool]) -> Iterator[None]:
    """Have Ray's loop end no worker of a Ray that is lost: it would wait for answers that never come."""
    as_it_is = TuneController.cleanup

    def cleanup(self: TuneController) -> None:
        if not is_lost():
            as_it_is(self)  # type: ignore[no-untyped-call]

    TuneController.cleanup = cleanup  # type: ignore[method-assign]
    try:
        yield
    finally:
        TuneController.cleanup = as_it_is  # type: ignore[method-assign]
