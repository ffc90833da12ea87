"""All private names of Ray that a search uses, as read in Ray 2.60.0.

Every function and class names its private names and their purpose. ``tests/tune_app/distributed/test_private.py``
asserts that each of them exists with the signature that is relied on, and that no other module uses any.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray._common.utils import get_ray_address_file
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.job_config import JobConfig
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.impl.tuner_internal import TunerInternal
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket

LOOPBACK = "127.0.0.1"

# Ray keeps running without its other processes, which serve its pages and logs.
_NEEDED = (ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a module or class while the block runs."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def announcement_file() -> Path:
    """Return the file that names the cluster started on this machine, for which the address ``auto`` stands.

    ``ray._common.utils.get_ray_address_file``: there is no public name for the file, whose owner must be checked.
    """
    return Path(get_ray_address_file(None))


@contextmanager
def on_loopback(options: dict[str, Any]) -> Iterator[None]:
    """Make a Ray that is started in the block listen on this machine alone.

    By default, Ray listens on every interface, even if it serves one machine. It accepts the loopback address
    (``_node_ip_address`` of ``ray.init``) only in a mode for machines whose firewalls would ask a person
    (``ray._private.ray_constants.ENABLE_RAY_CLUSTER``).
    """
    options["_node_ip_address"] = LOOPBACK
    with replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


def sessions_in(folder: Path) -> dict[str, Any]:
    """Return the option of ``ray.init`` that names the folder for a session's files: ``_temp_dir``."""
    return {"_temp_dir": str(folder)}


def session_folder() -> Path:
    """Return the folder of this process's Ray, from ``ray._private.worker.global_worker.node``."""
    node = ray_worker.global_worker.node
    assert node is not None
    return Path(node.get_session_dir_path())


def dead_processes() -> list[str]:
    """Return the names of dead processes that Ray needs and that this process started.

    ``ray._private.worker._global_node`` holds the processes; Ray itself waits for answers from dead ones.
    """
    node = ray_worker._global_node
    return [] if node is None else [name for name, _ in node.dead_processes() if name in _NEEDED]


def kill_processes() -> None:
    """Kill the Ray processes that this process started, without asking them.

    ``ray._private.worker._global_node``: ``ray.shutdown`` would wait for a Ray that does not answer.
    """
    node = ray_worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def silence_workers() -> None:
    """Suppress Ray's lines on workers (``ray._private.worker.print_to_stdstream``); headroom reports their ends."""
    ray_worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def command_line_hidden(hidden: Callable[[str], str]) -> Iterator[None]:
    """Apply a function to the command line that Ray records of the process that starts or joins it.

    Ray shows the line to everyone. ``ray._private.utils.get_entrypoint_name`` makes it.
    """
    as_it_is: Callable[[], str] = ray_utils.get_entrypoint_name
    with replaced(ray_utils, "get_entrypoint_name", lambda: hidden(as_it_is())):
        yield


class OwnImports(JobConfig):
    """Job configuration whose workers import only installed modules and those beside the script that searches.

    By default, Ray puts the driver's working directory first on its workers' import path. A file there with a library's
    name, such as tokenize.py, would replace the library. ``_py_driver_sys_path`` is the path that Ray would fill, and
    ``_runtime_env_has_working_dir`` decides whether the working directory is added.
    """

    def __init__(self) -> None:
        # Headroom may be run from a source tree that is not installed.
        paths = [str(Path(__file__).parents[2])]
        script = os.path.dirname(os.path.realpath(sys.argv[0]))
        # Like Ray, leave out the script's folder if the script was run by its module name.
        super().__init__(_py_driver_sys_path=[script, *paths] if script in sys.path else paths)

    def _runtime_env_has_working_dir(self) -> bool:
        return True


@contextmanager
def unrecorded() -> Iterator[None]:
    """Prevent Ray from writing a Tuner's arguments and the state of a search to the storage.

    The study is the record, and a Tuner's arguments may contain the keys of its storage.
    ``ray.tune.impl.tuner_internal.TunerInternal.__getstate__`` gives the arguments;
    ``ray.tune.execution.tune_controller.TuneController.save_to_dir`` writes the state to ``_storage``.
    """

    def save_nothing(self: TuneController) -> None:
        assert self._storage is not None
        # Ray needs the file at the end, and reads it if no trial was launched.
        folder = Path(self._storage.experiment_driver_staging_path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.experiment_state_file_name).write_text('{"trial_data": []}')

    with (
        replaced(TunerInternal, "__getstate__", lambda self: {}),
        replaced(TuneController, "save_to_dir", save_nothing),
    ):
        yield


class WorkerTaken(RayActorError):
    """Error of a lost worker for which Ray has no actor error: killed by its memory monitor, or lost with its node."""


@contextmanager
def deaths_are_the_trials() -> Iterator[None]:
    """Make every loss of a worker fail only its trial, which is then run again, whatever error Ray raises and when.

    Ray's loop handles actor and task errors. Any other error of a worker ends the whole loop, above all a kill by a
    node's memory monitor for lack of host memory (``RayActorManager._actor_task_failed`` receives it). A trial whose
    reused worker dies while taking it over would fail without being run again
    (``TuneController._trial_task_failure``, ``_resetting_trials``, ``_unstage_trial_with_resources``,
    ``_set_trial_status``).
    """
    task_failed, trial_failed = RayActorManager._actor_task_failed, TuneController._trial_task_failure

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = WorkerTaken(error_msg=f"{type(exception).__name__}: {' '.join(str(exception).split())}")
        task_failed(self, tracked_actor_task, exception)

    def failed_while_taken_over(self: TuneController, trial: Trial, exception: Exception) -> None:
        if trial in self._resetting_trials and isinstance(exception, RayActorError):
            # Do the same as Ray does if a new worker dies before it is ready.
            self._resetting_trials.discard(trial)
            self._unstage_trial_with_resources(trial)
            self._set_trial_status(trial, trial.RUNNING)
        trial_failed(self, trial, exception)

    with (
        replaced(RayActorManager, "_actor_task_failed", failed),
        replaced(TuneController, "_trial_task_failure", failed_while_taken_over),
    ):
        yield


@contextmanager
def cleaned_up_by(run: Callable[[Callable[[], object]], None]) -> Iterator[None]:
    """Give Ray's clean-up of a loop (``TuneController.cleanup``), which ends the workers, to a function that runs it.

    A service manager or batch system signals every process at once, so that Ray dies while its loop ends the workers.
    """
    as_it_is: Callable[[TuneController], None] = TuneController.cleanup
    with replaced(TuneController, "cleanup", lambda self: run(lambda: as_it_is(self))):
        yield


def worker_of(trial: Trial) -> Any:
    """Return the worker that a trial holds, from ``Trial.temporary_state.ray_actor``; None if it holds none."""
    return trial.temporary_state.ray_actor


class _WholeBracket(_Bracket):
    """Bracket (``ray.tune.schedulers.hyperband._Bracket``) that is full once enough trials were added.

    Ray's own bracket counts only live trials (``_live_trials``). If trials run one after another, each ends before the
    next is added. The first bracket, which never stops a trial, would then take them all. Here, trials that have ended
    count, too (``_all_trials``, up to ``_n0``).
    """

    def filled(self) -> bool:
        return len(self._all_trials) >= self._n0


class WholeHyperBand(HyperBandScheduler):
    """Ray's HyperBand without brackets that begin before ``warmup`` steps, and without trials that wait forever.

    ``_get_r0`` returns a bracket's first rung. ``_create_bracket`` makes a bracket from ``_time_attr``, ``_get_n0``,
    ``_max_t_attr``, ``_eta`` and ``_stop_last_trials``. ``_process_bracket`` halves it. ``_trial_info`` names the
    trials.
    """

    def __init__(self, *, warmup: int, **options: Any) -> None:
        super().__init__(**options)
        self._get_n0: Callable[[int], int]
        first_rung: Callable[[int], int] = self._get_r0

        def first_rung_after_warmup(bracket: int) -> int:
            # HyperBand skips a bracket whose first rung is at 0 steps.
            return first_rung(bracket) if first_rung(bracket) >= warmup else 0

        self._get_r0: Callable[[int], int] = first_rung_after_warmup

    @property
    def trials(self) -> Iterable[Trial]:
        """All trials of all brackets."""
        return self._trial_info

    def _create_bracket(self, s: int) -> _Bracket:
        return _WholeBracket(
            time_attr=self._time_attr,
            max_trials=self._get_n0(s),
            init_t_attr=self._get_r0(s),
            max_t_attr=self._max_t_attr,
            eta=self._eta,
            s=s,
            stop_last_trials=self._stop_last_trials,
        )

    def _process_bracket(self, tune_controller: Any, bracket: _Bracket) -> str:
        """Halve a bracket until one of its trials can go on.

        A retried or resumed trial enters a new bracket at the step that it had reached, perhaps beyond the bracket's
        next rung. Ray halves once and lets such trials wait for lower ones, even if there are none.
        """
        decision: str = TrialScheduler.PAUSE
        while bracket.current_trials():
            decision = self._halve(tune_controller, bracket)
            if decision != TrialScheduler.PAUSE or any(map(bracket.continue_trial, bracket.current_trials())):
                break
        return decision

    def _halve(self, tune_controller: Any, bracket: _Bracket) -> str:
        # Ray sets this mark and never resets it. A trial that fails after the first halving would leave the trials that
        # wait for it paused forever.
        try:
            decision: str = super()._process_bracket(tune_controller, bracket)
            return decision
        finally:
            bracket.is_being_processed = False
