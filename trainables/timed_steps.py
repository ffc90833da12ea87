"""A few timed steps of models that this machine has not trained yet, in a process of their own.

``python -m trainables.timed_steps`` reads pickled requests from its standard input. The measured times go to the
machine's record of paces, as a trial's do. Errors go to the standard output: one JSON object, model → error.
"""

import json
import pickle
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.devices.current import current_device
from trainables.devices.device import MemoryDevice
from trainables.inputs import prepare_inputs
from trainables.machine import MachineFiles
from trainables.planning.timings import PaceLedger
from trainables.scratch import scratch_folder
from trainables.session import TrainingSession
from trainables.settings import RungSettings, TrialSettings, encoder_names
from trainables.threads import limit_threads

_FEW_ROWS = 4
_EVALUATED_ROWS = 32
_MOST_DATA_ROWS = 20_000
# Of the time for one model, the part for steps of few rows. Steps of the sampled size follow if they fit in the rest.
_FIRST_PART = 0.4


@dataclass(frozen=True)
class Request:
    """Request to time the steps of one model.

    Attributes:
        settings: settings of a typical trial of the model.
        seconds: time for its steps.
        share: the trial's part of a card, or of the host's memory.
    """

    settings: TrialSettings
    seconds: float
    share: float


@dataclass(frozen=True)
class Requests:
    """All requests to one process.

    Attributes:
        threads: torch's threads.
        at_once: trials that will run at a time on the machine.
        keeps_checkpoints: whether trials write checkpoints.
        most_s: seconds after which no further model is begun.
    """

    requests: Sequence[Request]
    threads: int
    at_once: int
    keeps_checkpoints: bool
    most_s: float


def time_models(asked: Requests) -> dict[str, str]:
    """Time the steps of each model, and return the errors of those that cannot be trained, by name."""
    limit_threads(asked.threads)
    errors: dict[str, str] = {}
    begun = time.monotonic()
    with scratch_folder("timing") as scratch:
        for request in asked.requests:
            if time.monotonic() - begun > asked.most_s:
                break
            try:
                _time_model(request, asked, scratch)
            except Exception as error:  # A trial with these settings would fail in the same way.
                name = request.settings.model.name
                errors[name] = " ".join(f"{type(error).__name__}: {error}".split())
    return errors


def _time_model(request: Request, asked: Requests, scratch: Path) -> None:
    settings = _shortened(request.settings)
    prepare_inputs(settings, encoder_names(settings), scratch)
    few = min(_FEW_ROWS, settings.train.effective_batch)
    step_s = _time_steps(_with_batch(settings, few), request, asked, scratch, request.seconds * _FIRST_PART)
    left_s = request.seconds * (1 - _FIRST_PART)
    whole = settings.train.effective_batch
    # The first step is not timed.
    if whole > few and 2 * step_s * whole / few <= left_s:
        _time_steps(settings, request, asked, scratch, left_s)


def _time_steps(settings: TrialSettings, request: Request, asked: Requests, scratch: Path, seconds: float) -> float:
    """Run and record steps for some seconds, at least one; return the seconds of a step."""
    memory, files = settings.memory, MachineFiles()
    device = current_device(memory.budget_gib, request.share, device_gib=memory.device_gib)
    with device.enforce():
        step_s = _recorded(settings, asked, scratch, device, files, seconds)
    device.release()
    return step_s


def _recorded(
    settings: TrialSettings, asked: Requests, scratch: Path, device: MemoryDevice, files: MachineFiles, seconds: float
) -> float:
    session = TrainingSession(settings, scratch, device)
    session.plan_memory(files)
    start = time.monotonic()
    session.train_to(1)
    last = session.steps_per_epoch
    if last > 1 and time.monotonic() - start < seconds / 2:
        # The first step and the first evaluation of a process load libraries and fill caches.
        session.evaluate_rung()
        session.restart_pace()
    else:
        last = 1
    steps, start = 1, time.monotonic()
    while steps < last and (time.monotonic() - start < seconds):
        steps += 1
        session.train_to(steps)
    step_s = session.timed_step_s
    session.evaluate_rung()
    if asked.keeps_checkpoints:
        session.save(scratch / "checkpoint")
    session.record_pace(PaceLedger(files.pace), asked.at_once, is_warm=last > 1)
    return step_s


def _shortened(settings: TrialSettings) -> TrialSettings:
    rows = min(settings.data.max_rows or _MOST_DATA_ROWS, _MOST_DATA_ROWS)
    # One split suffices, and one short evaluation.
    return replace(
        settings,
        data=replace(settings.data, max_rows=rows, folds=None),
        rungs=RungSettings(per_epoch=2, rows=_EVALUATED_ROWS),
    )


def _with_batch(settings: TrialSettings, batch: int) -> TrialSettings:
    return replace(settings, train=replace(settings.train, batch_size=batch, grad_accum=1))


if __name__ == "__main__":
    answer = time_models(pickle.load(sys.stdin.buffer))
    print(json.dumps(answer), flush=True)
