"""One trial from start to end: load, predict, probe, split, train, ``report``. It knows no Ray and no Optuna."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from trainables.devices.current import current_device
from trainables.devices.device import MemoryDevice
from trainables.devices.errors import OutOfMemory
from trainables.devices.host import GIB
from trainables.devices.stages import StageLog
from trainables.machine import MachineFiles
from trainables.planning.accepted import AcceptedPlans
from trainables.planning.timings import PaceLedger
from trainables.reports import (
    FOLD_DEVIATION,
    FOLD_EPOCH,
    FOLD_EPOCHS,
    Breakdown,
    Breakdowns,
    Fact,
    Report,
    TrialReport,
)
from trainables.session import TrainingSession
from trainables.settings import TrialSettings
from trainables.tasks.protocol import Scores
from trainables.training.checkpoint import TrialProgress
from trainables.training.rungs import rung_end
from trainables.worker import MemoryTakenError


@dataclass(frozen=True)
class TrialFolders:
    """Folders of one trial.

    Attributes:
        cache: folder shared by the trials of a study on this node: tokenised texts, tokenizers.
        checkpoints: the trial's own folder, to which each checkpoint is written before its report; None writes none.
        resume_from: a checkpoint to resume from, or None for a new run.
        machine: files about memory and time, shared by all studies of this machine.
        at_once: trials that run at a time on this machine, this one included.
    """

    cache: Path
    checkpoints: Path | None
    resume_from: Path | None = None
    machine: MachineFiles = field(default_factory=MachineFiles)
    at_once: int = 1


def run_trial(
    settings: TrialSettings,
    *,
    report: Report,
    folders: TrialFolders,
    device: MemoryDevice | None = None,
    accepted: AcceptedPlans | None = None,
) -> None:
    """Run one trial under its memory budget and report every epoch. Running out of memory is reported, never raised.

    With ``rungs.per_epoch`` above 1 it also reports within epochs, which does not change the training.

    Folds are trained one after the other, each from the start, in the same order in every trial. The step of a report
    then counts folds, and epochs are reported as part of one. The last report is sent after the trial's memory was
    released.

    Args:
        report: called after every epoch or rung and at an early end. It may raise to stop the trial.
        device: the device to run on; None uses the first CUDA device, else the CPU, with the settings' memory.
        accepted: memory plans that accepted the settings before launch; None predicts the need here.

    Raises:
        ValueError: an epoch has several rungs, and the data is in folds.
        MemoryTakenError: memory ran out, but not by the trial's own need. The trial may be retried in another process.
        DataError, ModelLoadError, UnknownModelError, NonFiniteLossError: raised by loading and training; these and all
            other exceptions are failures of the trial.
    """
    if settings.rungs.per_epoch > 1 and settings.data.folds is not None:
        raise ValueError(
            f"rungs.per_epoch={settings.rungs.per_epoch} with data.folds={settings.data.folds}: a trial in folds is "
            "judged by whole folds; set rungs.per_epoch to 1 or leave out data.folds"
        )
    device = device or current_device(settings.memory.budget_gib, device_gib=settings.memory.device_gib)
    with device.enforce():
        trial = _Trial(settings, report, folders, device, accepted)
        last = attempted(trial.run, device)
        trial.stages.reached("trial end")
        if not isinstance(last, OutOfMemory):
            trial.report(last)
        elif last.cause == "own":
            trial.report(trial.oom_report(last))
        else:
            raise MemoryTakenError(last.cause, last.message)


def attempted(run: Callable[[], TrialReport], device: MemoryDevice) -> TrialReport | OutOfMemory:
    """Return the last report of a run, or its out-of-memory failure, after its memory was released."""
    try:
        last: TrialReport | OutOfMemory = run()
    except Exception as error:
        failure = OutOfMemory.of(error, device)
        if failure is None:
            raise
        last = failure
    # Release outside the ``except`` block, whose traceback keeps the failed frames' tensors alive.
    device.release()
    return last


class _Trial:
    """The state of a trial that outlives its session, so that the session's memory is free before the last report."""

    def __init__(
        self,
        settings: TrialSettings,
        report: Report,
        folders: TrialFolders,
        device: MemoryDevice,
        accepted: AcceptedPlans | None,
    ) -> None:
        self._settings = settings
        self._report = report
        self._folders = folders
        self._device = device
        self._accepted = accepted
        self._progress = TrialProgress()
        self._facts: dict[str, Fact] = {"effective_batch": settings.train.effective_batch}
        device.reset_peak()
        self._held_before = device.live_bytes()
        self._budget = device.budget_bytes()
        self._peak = 0
        self.stages = StageLog(device)
        self.stages.reached("trial start")

    def run(self) -> TrialReport:
        """Send every report but the last, and return the last one. The session and its memory end with this call."""
        settings, progress = self._settings, self._progress
        session = TrainingSession(settings, self._folders.cache, self._device, progress)
        self.stages.reached("model loaded")
        session.plan_memory(self._folders.machine, self._accepted)
        if self._folders.resume_from is not None:
            session.resume(self._folders.resume_from)
            trial_report = self._report_of(session, checkpoint=None)
            if trial_report.ended:
                # The trial was interrupted between its last checkpoint and its end, so only the last report is missing.
                return trial_report

        self._begin_training()
        while True:
            self._train_to_next_report(session)
            is_fold_over = settings.data.folds is not None and _is_over(progress, settings)
            if is_fold_over:
                progress.finish_fold()
            folder = self._folders.checkpoints
            trial_report = self._report_of(session, folder and session.save(folder / progress.name))
            session.record_pace(PaceLedger(self._folders.machine.pace), self._folders.at_once)
            if trial_report.ended:
                self.stages.reached("training end")
                return trial_report
            self.report(trial_report)
            if is_fold_over:
                session.begin_fold(len(progress.folds))

    def _train_to_next_report(self, session: TrainingSession) -> None:
        """Train up to the next rung or the epoch's end, evaluate there and record both."""
        progress, rung = self._progress, len(self._progress.rung_values) + 1
        is_inner = rung < self._settings.rungs.per_epoch
        try:
            if is_inner:
                self._train_rung(session, rung)
            else:
                self._train_epoch(session)
        finally:
            # The report of an out-of-memory end includes these facts too.
            self._facts |= session.facts()
        # Stored with the checkpoint: the peak of a trial covers all its resumes.
        progress.peak_bytes = max(progress.peak_bytes, self._device.peak_bytes())
        if not is_inner:
            # Tensors that lived before the trial are not part of its need.
            session.settle_memory(self._device.peak_bytes() - self._held_before)

    def _train_epoch(self, session: TrainingSession) -> None:
        loss = session.train_epoch()
        scores = session.evaluate_epoch()
        metrics = {"train_loss": loss, **scores.metrics, "collapsed": float(scores.collapsed)}
        self._progress.add_epoch(self._objective(scores), metrics, scores.breakdowns)

    def _train_rung(self, session: TrainingSession, rung: int) -> None:
        progress = self._progress
        end = rung_end(rung, self._settings.rungs.per_epoch, session.steps_per_epoch)
        if end == len(progress.step_losses):
            # An epoch with fewer steps than rungs: nothing has changed since the previous rung.
            progress.add_rung(progress.rung_values[-1], progress.metrics)
            return
        loss = session.train_to(end)
        scores = session.evaluate_rung()
        progress.add_rung(self._objective(scores), {"train_loss": loss, **scores.metrics})

    def _objective(self, scores: Scores) -> float:
        return scores.metrics[self._settings.task.metric]

    def report(self, trial_report: TrialReport) -> None:
        """Send the report with the current memory figures."""
        peak = max(self._peak, self._progress.peak_bytes, self._device.peak_bytes())
        memory: dict[str, Fact] = {"peak_gib": peak / GIB, "budget_gib": self._budget / GIB, **self.stages.facts()}
        self._report(replace(trial_report, facts={**trial_report.facts, **memory}))

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
        step = _steps_done(self._progress, self._settings)
        return TrialReport(step=step, value=math.nan, facts=facts, ended="oom", reason=reason)

    def _begin_training(self) -> None:
        """Reset the peak, so that it measures the predicted passes alone; remember the peak of loading."""
        self.stages.reached("training start")
        self._peak = self._device.peak_bytes()
        self._device.release()
        self._device.reset_peak()

    def _report_of(self, session: TrainingSession, checkpoint: Path | None) -> TrialReport:
        self._facts |= session.facts()
        trial_report = _current_report(self._progress, self._settings)
        return replace(trial_report, facts=dict(self._facts), checkpoint=checkpoint)


def _current_report(progress: TrialProgress, settings: TrialSettings) -> TrialReport:
    """Return the report of the last fold, epoch or rung, without the facts and the checkpoint."""
    folds = settings.data.folds
    if folds is not None:
        done = len(progress.folds)
        value, metrics = _over_folds(progress.folds, settings.task.metric)
        end: Literal["complete"] | None = "complete" if done == folds else None
        breakdowns = _mean_breakdowns(progress.folds_breakdowns)
        fold_epoch = progress.epoch or None
        return TrialReport(done, value, metrics, ended=end, fold_epoch=fold_epoch, breakdowns=breakdowns)
    step, metrics = _steps_done(progress, settings), dict(progress.metrics)
    if progress.rung_values:
        return TrialReport(step, progress.rung_values[-1], metrics)
    ended: Literal["complete"] | None = "complete" if _is_over(progress, settings) else None
    reason = None
    if ended and progress.epoch < settings.train.epochs:
        waited = progress.epoch - progress.best_epoch
        reason = f"patience: no better epoch in {waited} since epoch {progress.best_epoch}"
    reported = progress.breakdowns if progress.best_epoch == progress.epoch else {}
    return TrialReport(step, progress.values[-1], metrics, ended=ended, reason=reason, breakdowns=reported)


def _steps_done(progress: TrialProgress, settings: TrialSettings) -> int:
    """Return the number of finished folds, or of finished rungs; by default an epoch is one rung."""
    if settings.data.folds is not None:
        return len(progress.folds)
    return progress.epoch * settings.rungs.per_epoch + len(progress.rung_values)


def _is_over(progress: TrialProgress, settings: TrialSettings) -> bool:
    """Return whether the run, or the current fold, is over; patience counts the current fold's epochs alone."""
    patience = settings.train.patience
    waited = progress.epoch - progress.best_epoch
    return progress.epoch >= settings.train.epochs or (patience is not None and waited >= patience)


def _over_folds(folds: Sequence[Mapping[str, float]], objective: str) -> tuple[float, dict[str, float]]:
    """Return the mean objective of the folds so far, NaN before any, and the means of all their metrics.

    The metrics also include the deviation between folds, and the last fold's own values.
    """
    if not folds:
        return math.nan, {}
    names = [name for name in folds[0] if all(name in fold for fold in folds)]
    means = {name: statistics.fmean(fold[name] for fold in folds) for name in names}
    values = [fold[objective] for fold in folds]
    last = folds[-1]
    last_fold = {f"fold_{objective}": last[objective], FOLD_EPOCH: last[FOLD_EPOCH], FOLD_EPOCHS: last[FOLD_EPOCHS]}
    return means[objective], {**means, FOLD_DEVIATION: statistics.pstdev(values), **last_fold}


def _mean_breakdowns(folds: Sequence[Breakdowns]) -> dict[str, Breakdown]:
    names = dict.fromkeys(name for fold in folds for name in fold)
    return {name: _mean_breakdown([fold[name] for fold in folds if name in fold]) for name in names}


def _mean_breakdown(folds: Sequence[Breakdown]) -> dict[str, dict[str, float]]:
    """Return each part's mean values, counts included, over the folds in which it has values.

    A value that some of these folds lack is a count of 0 there.
    """
    values_of: dict[str, list[Mapping[str, float]]] = {}
    for fold in folds:
        for part, values in fold.items():
            values_of.setdefault(part, []).append(values)
    return {
        part: {
            name: statistics.fmean(fold.get(name, 0.0) for fold in of_folds)
            for name in dict.fromkeys(name for fold in of_folds for name in fold)
        }
        for part, of_folds in values_of.items()
    }
