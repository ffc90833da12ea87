"""One trial from top to bottom: load, train, report. No Ray, no Optuna; ``report`` is all that leaves it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainables.memory.device import MemoryDevice, current_device
from trainables.memory.errors import is_out_of_memory
from trainables.reports import Report, TrialReport
from trainables.settings import TrialSettings
from trainables.training.checkpoint import Progress
from trainables.training.session import TrainingSession, batch_facts


@dataclass(frozen=True)
class TrialPlaces:
    """Folders of one trial.

    Attributes:
        cache: shared by the trials of a study on this node: tokenised texts, tokenizers.
        checkpoints: the trial's own; a folder per epoch is written here before it is reported.
        resume_from: a checkpoint to go on from, or None to start afresh.
    """

    cache: Path
    checkpoints: Path
    resume_from: Path | None = None


def run_trial(
    settings: TrialSettings, *, report: Report, places: TrialPlaces, device: MemoryDevice | None = None
) -> None:
    """Run one trial and report every epoch. Running out of memory is reported too, never raised.

    Args:
        report: called after every epoch and at an early end. It may raise to stop the trial.
        device: where to run; None takes the first CUDA device, else the CPU.

    Raises:
        DataError, ModelLoadError, UnknownModelError, NonFiniteLossError: as loading and training raise them; these
            and all other exceptions are failures of the trial.
    """
    device = device or current_device()
    device.reset_peak()
    progress = Progress()
    out_of_memory: str | None = None
    try:
        _load_train_report(settings, report, places, device, progress)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # Only text leaves this block: the exception's traceback keeps the failed frames' tensors alive.
        out_of_memory = (str(error).splitlines() or [type(error).__name__])[0]
    if out_of_memory is not None:
        device.release()
        report(_oom_report(settings, progress, device, out_of_memory))


def _load_train_report(
    settings: TrialSettings, report: Report, places: TrialPlaces, device: MemoryDevice, progress: Progress
) -> None:
    session = TrainingSession(settings, places.cache, device, progress)

    def report_epoch(checkpoint: Path | None) -> None:
        ended, reason = _end_of(progress, settings)
        report(
            TrialReport(
                epoch=progress.epoch,
                value=progress.values[-1],
                metrics=dict(progress.metrics),
                facts={**session.facts(), "peak_gib": device.peak_gib()},
                ended=ended,
                reason=reason,
                checkpoint=checkpoint,
            )
        )

    if places.resume_from is not None:
        session.resume(places.resume_from)
        if _has_ended(progress, settings):
            # It was interrupted between its last checkpoint and its end: only that is left to be said.
            report_epoch(checkpoint=None)

    while not _has_ended(progress, settings):
        loss = session.train_epoch()
        scores = session.evaluate("validation")
        progress.values.append(scores[session.task.objective])
        progress.metrics = {"train_loss": loss, **scores}
        report_epoch(session.save(places.checkpoints / f"epoch-{progress.epoch}"))


def _has_ended(progress: Progress, settings: TrialSettings) -> bool:
    return _end_of(progress, settings)[0] is not None


def _end_of(progress: Progress, settings: TrialSettings) -> tuple[Literal["complete"] | None, str | None]:
    if progress.epoch >= settings.train.epochs:
        return "complete", None
    waited = progress.epoch - progress.best_epoch
    if settings.train.patience is not None and waited >= settings.train.patience:
        return "complete", f"patience: no better epoch in {waited} since epoch {progress.best_epoch}"
    return None, None


def _oom_report(settings: TrialSettings, progress: Progress, device: MemoryDevice, message: str) -> TrialReport:
    train = settings.train
    where = (
        f"model {settings.model.name}, batch {train.batch_size}, accumulation {train.grad_accum}, "
        f"length {settings.tok.max_length}"
    )
    return TrialReport(
        epoch=progress.epoch,
        value=math.nan,
        facts={**batch_facts(settings), "recoveries": progress.recoveries, "peak_gib": device.peak_gib()},
        ended="oom",
        reason=f"{where}: {message}",
    )
