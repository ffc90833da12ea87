"""One trial from top to bottom: load, predict, probe, split, train, report. No Ray, no Optuna; ``report`` leaves it."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from trainables.machine import MachineFiles
from trainables.memory.current import current_device
from trainables.memory.device import GIB, MemoryDevice
from trainables.memory.errors import OutOfMemory
from trainables.memory.stages import StageLog
from trainables.reports import Fact, Report, TrialReport
from trainables.settings import TrialSettings
from trainables.training.checkpoint import Progress
from trainables.training.session import TrainingSession
from trainables.worker import MemoryTakenError


@dataclass(frozen=True)
class TrialPlaces:
    """Folders of one trial.

    Attributes:
        cache: shared by the trials of a study on this node: tokenised texts, tokenizers.
        checkpoints: the trial's own; a folder per epoch is written here before it is reported.
        resume_from: a checkpoint to go on from, or None to start afresh.
        machine: shared by all studies of this machine: what is known of memory.
    """

    cache: Path
    checkpoints: Path
    resume_from: Path | None = None
    machine: MachineFiles = field(default_factory=MachineFiles)


def run_trial(
    settings: TrialSettings, *, report: Report, places: TrialPlaces, device: MemoryDevice | None = None
) -> None:
    """Run one trial under its memory budget and report every epoch. Running out of memory is reported, never raised.

    The last report is made when the trial's memory was given back.

    Args:
        report: called after every epoch and at an early end. It may raise to stop the trial.
        device: where to run; None takes the first CUDA device, else the CPU, with the memory that the settings give.

    Raises:
        MemoryTakenError: memory ran out, but not by the trial's own need. It may run again in another process.
        DataError, ModelLoadError, UnknownModelError, NonFiniteLossError: as loading and training raise them; these
            and all other exceptions are failures of the trial.
    """
    device = device or current_device(settings.memory.budget_gib, device_gib=settings.memory.device_gib)
    with device.enforce():
        trial = _Trial(settings, report, places, device)
        failure: OutOfMemory | None = None
        try:
            last = trial.run()
        except Exception as error:
            failure = OutOfMemory.of(error, device)
            if failure is None:
                raise
        # Outside the block, whose traceback keeps the failed frames' tensors alive.
        device.release()
        trial.stages.reached("trial end")
        if failure is None:
            trial.report(last)
        elif failure.cause == "own":
            trial.report(trial.oom_report(failure))
        else:
            raise MemoryTakenError(failure.cause, failure.message)


class _Trial:
    """What a trial knows of itself from its start to its end; the session, which holds the memory, is not kept."""

    def __init__(self, settings: TrialSettings, report: Report, places: TrialPlaces, device: MemoryDevice) -> None:
        self._settings = settings
        self._report = report
        self._places = places
        self._device = device
        self._progress = Progress()
        self._facts: dict[str, Fact] = {"effective_batch": settings.train.effective_batch}
        device.reset_peak()
        self._held_before = device.live_bytes()
        self._budget = device.budget_bytes()
        self._peak = 0
        self.stages = StageLog(device)
        self.stages.reached("trial start")

    def run(self) -> TrialReport:
        """Report every epoch but the last, whose report is returned: by then, nothing of the session is left."""
        settings, progress = self._settings, self._progress
        session = TrainingSession(settings, self._places.cache, self._device, progress)
        self.stages.reached("model loaded")
        session.fit_to_memory(self._places.machine)
        if self._places.resume_from is not None:
            session.resume(self._places.resume_from)
            said = self._epoch_report(session, checkpoint=None)
            if said.ended:
                # It was interrupted between its last checkpoint and its end: only that is left to be said.
                return said

        self._begin_training()
        while True:
            try:
                loss = session.train_epoch()
                scores = session.evaluate("validation")
            finally:
                # What was tried is told of a trial that ran out of memory, too.
                self._facts |= session.facts()
            progress.values.append(scores.metrics[settings.task.metric])
            progress.metrics = {"train_loss": loss, **scores.metrics}
            self._facts["collapsed"] = scores.collapsed
            # What lived before the trial is not its need.
            session.settle_memory(self._device.peak_bytes() - self._held_before)
            said = self._epoch_report(session, session.save(self._places.checkpoints / f"epoch-{progress.epoch}"))
            if said.ended:
                self.stages.reached("training end")
                return said
            self.report(said)

    def report(self, said: TrialReport) -> None:
        """Report with the figures of memory as they stand."""
        peak = max(self._peak, self._device.peak_bytes())
        memory: dict[str, Fact] = {"peak_gib": peak / GIB, "budget_gib": self._budget / GIB, **self.stages.facts()}
        self._report(replace(said, facts={**said.facts, **memory}))

    def oom_report(self, failure: OutOfMemory) -> TrialReport:
        train = self._settings.train
        where = (
            f"model {self._settings.model.name}, batch {train.batch_size}, accumulation {train.grad_accum}, "
            f"length {self._settings.tok.max_length}"
        )
        facts: dict[str, Fact] = {**self._facts, "recoveries": self._progress.recoveries}
        if failure.needed_bytes is not None:
            facts |= {"need_gib": failure.needed_bytes / GIB, "allowed_gib": failure.allowed_bytes / GIB}
        reason = f"{where}: {failure.message}"
        return TrialReport(epoch=self._progress.epoch, value=math.nan, facts=facts, ended="oom", reason=reason)

    def _begin_training(self) -> None:
        """From here on the peak is that of the passes, which is what was predicted; loading has one of its own."""
        self.stages.reached("training start")
        self._peak = self._device.peak_bytes()
        self._device.release()
        self._device.reset_peak()

    def _epoch_report(self, session: TrainingSession, checkpoint: Path | None) -> TrialReport:
        progress = self._progress
        self._facts |= session.facts()
        ended, reason = _end_of(progress, self._settings)
        return TrialReport(
            epoch=progress.epoch,
            value=progress.values[-1],
            metrics=dict(progress.metrics),
            facts=dict(self._facts),
            ended=ended,
            reason=reason,
            checkpoint=checkpoint,
        )


def _end_of(progress: Progress, settings: TrialSettings) -> tuple[Literal["complete"] | None, str | None]:
    if progress.epoch >= settings.train.epochs:
        return "complete", None
    waited = progress.epoch - progress.best_epoch
    if settings.train.patience is not None and waited >= settings.train.patience:
        return "complete", f"patience: no better epoch in {waited} since epoch {progress.best_epoch}"
    return None, None
