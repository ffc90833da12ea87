"""Function that Ray runs in a worker: one trial of ``trainables``, with its reports converted to Ray's."""

import faulthandler
import logging
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from pyarrow.fs import FileType
from ray import tune

from trainables.content import InputsChangedError
from trainables.reports import TrialReport
from trainables.scratch import scratch_folder
from trainables.settings import TrialSettings, with_params
from tune_app.distributed.messages import Launch, SentReport
from tune_app.distributed.nodes import TrialFiles
from tune_app.distributed.resuming import Resumed, resumed
from tune_app.distributed.trial import RunTrial, Workspace
from tune_app.errors import storage_failure, without_password
from tune_app.outcomes import PASSED_OVER_ATTRIBUTE, TrialError
from tune_app.study.checkpoints import CheckpointStorage
from tune_app.study.storage_location import StoreUnavailableError, store_errors
from tune_app.uris import is_store

# Characters of a traceback to keep: longer ones only repeat themselves, and the driver keeps every report in memory.
_LONGEST_TRACEBACK = 20_000
# Total time to wait for a store that does not answer, and pause between two attempts.
_PATIENCE_S = 600.0
_PAUSE_S = 5.0
# Grace of the driver's clock: the worker's own clock, which logs where the worker hangs, starts later and must ring
# first.
_LEAST_GRACE_S, _MOST_GRACE_S = 5.0, 30.0

T = TypeVar("T")


class DiscardWorker(Exception):
    """Error that ends a trial after its outcome was reported, so that Ray discards the worker."""


def make_trainable(
    base: TrialSettings,
    cache: Path,
    *,
    files: TrialFiles,
    storage: CheckpointStorage | None,
    folder: str,
    threads: int,
    host_share: float,
    at_once: int,
    timeout_s: float | None,
    run_trial: RunTrial,
) -> Callable[[Mapping[str, Any]], None]:
    """Return the function for Ray's Tuner.

    Args:
        base: settings of every trial, whose searched values a sample replaces.
        cache: folder on the driver's node that trials share.
        files: files that trials read, on any node.
        storage: storage of the trials' checkpoints; None if they write none.
        folder: folder of the study's trials in the storage.
        threads: number of torch threads, which is fixed because sums over another number of threads round differently.
        host_share: share of the host's memory for a trial without a share of a card.
        at_once: trials that run at a time.
        timeout_s: most seconds between two reports. A worker that takes longer ends itself; None waits forever.
        run_trial: function that runs a trial.
    """

    def trainable(config: Mapping[str, Any]) -> None:
        launch = Launch.from_dict(config)
        stack = ExitStack()
        scratch = stack.enter_context(scratch_folder("trial"))
        ends: list[TrialReport] = []
        resume = Resumed()

        def report(sent: TrialReport) -> None:
            if sent.ended:
                ends.append(sent)
            if resume.passed_over:
                sent = replace(sent, facts={**sent.facts, PASSED_OVER_ATTRIBUTE: resume.passed_over})
            # The time that the report itself takes does not count as the trial's.
            faulthandler.cancel_dump_traceback_later()
            _patiently(storage, lambda: _report(sent))
            _end_unless_heard(timeout_s)

        _end_unless_heard(timeout_s)
        try:
            settings, shared = files.here(with_params(base, launch.params), cache)
            if storage is not None:
                _patiently(storage, lambda: _require_reach(storage, folder))
                resume = _patiently(
                    storage, lambda: resumed(tune.get_checkpoint(), launch.resume_from, storage, scratch)
                )
            workspace = Workspace(
                shared,
                None if storage is None else scratch / "checkpoints",
                resume.folder,
                threads,
                # A trial with several cards uses only the first.
                share=min(1.0, launch.gpus or host_share),
                card=_claimed_card(),
                at_once=at_once,
                plans=launch.plans,
            )
            run_trial(settings, report, workspace)
        except Exception as error:
            # The trial ran, so torch is imported already.
            from trainables.worker import is_trials_own

            if why := _no_trials_fault(error, storage):
                _report_halt(why)
            elif is_trials_own(error) and not isinstance(error, CheckpointsOutOfReachError):
                _report_failure(error)
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
            stack.close()
        if ends and ends[-1].ended == "oom":
            raise DiscardWorker("a worker that ran out of memory is not used again")

    trainable.__name__ = "trial"
    return trainable


class CheckpointsOutOfReachError(Exception):
    """Error of a trial that cannot save checkpoints at present; it is run again, as if its worker had died."""


def _require_reach(storage: CheckpointStorage, folder: str) -> None:
    """Check that this node has the folder of the checkpoints, since it may have joined after the search's own check.

    Raises:
        CheckpointsOutOfReachError: the node lacks the folder.
    """
    filesystem, path = storage.opened()
    if filesystem.get_file_info(f"{path}/{folder}").type != FileType.Directory:
        raise CheckpointsOutOfReachError(
            f"node {ray.util.get_node_ip_address()} does not have {without_password(storage.address)}, where"
            " checkpoints lie; mount it there, or remove the node from the cluster"
        )


def _patiently(storage: CheckpointStorage | None, action: Callable[[], T]) -> T:
    """Run an action that needs the store of the checkpoints, and retry for a while if the store does not answer.

    On a disk, run it once: a full or read-only disk does not recover by itself.

    Raises:
        CheckpointsOutOfReachError: the store has not answered for too long.
    """
    if storage is None or not is_store(storage.address):
        return action()
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with store_errors():
                return action()
        except FileNotFoundError:
            # A missing file is an answer of the store, so retrying is pointless.
            raise
        except (OSError, StoreUnavailableError) as error:
            why = f"the store of the checkpoints does not answer: {storage.why(error)}"
            if time.monotonic() > end:
                raise CheckpointsOutOfReachError(why) from None
            logging.getLogger("headroom").warning("%s; trying again", why)
            time.sleep(_PAUSE_S)


def _end_unless_heard(timeout_s: float | None) -> None:
    """End this process after a timeout, unless this is called again; the stack at that moment goes to its log.

    The clock runs in a thread that does not need the interpreter, so it works during native code, too.
    """
    if timeout_s is not None:
        # Ray may have replaced sys.stderr by an object without a file descriptor.
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=sys.__stderr__ or 2)


def watch_timeout_s(timeout_s: float | None, storage: CheckpointStorage) -> float | None:
    """Return the silence in seconds after which the driver ends a worker whose own clock failed; None means never.

    The worker's clock stops while it waits for the store of the checkpoints.
    """
    if timeout_s is None:
        return None
    grace_s = min(max(timeout_s, _LEAST_GRACE_S), _MOST_GRACE_S)
    return timeout_s + grace_s + (_PATIENCE_S if is_store(storage.address) else 0.0)


def _claimed_card() -> str:
    ids = ray.get_gpu_ids()
    return str(ids[0]) if ids else "cpu"


def _report(sent: TrialReport) -> None:
    checkpoint = None if sent.checkpoint is None else tune.Checkpoint.from_directory(str(sent.checkpoint))
    tune.report(SentReport.of(sent).as_dict(), checkpoint=checkpoint)
    if sent.checkpoint is not None:
        # Ray has already copied the checkpoint to its storage.
        shutil.rmtree(sent.checkpoint, ignore_errors=True)


def _no_trials_fault(error: Exception, storage: CheckpointStorage | None) -> str | None:
    """Return the reason of an error that would stop any trial at present; None for any other error."""
    if isinstance(error, InputsChangedError):
        return str(error)
    failure = storage_failure(error)
    if failure is None:
        return None
    folders = [tempfile.gettempdir(), *([] if storage is None else [without_password(storage.address)])]
    return f"{failure} (a trial was writing to {' or '.join(folders)})"


def _report_halt(why: str) -> None:
    tune.report(SentReport(ended="halted", reason=why).as_dict())


def _report_failure(error: Exception) -> None:
    text = "".join(traceback.format_exception(error))
    failure = TrialError(type(error).__name__, str(error), text[-_LONGEST_TRACEBACK:])
    tune.report(SentReport(ended="failed", error=failure).as_dict())
