"""One trial from top to bottom: load, train, report. No Ray, no Optuna; ``report`` is all that leaves it."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trainables.memory.current import current_device
from trainables.memory.device import GIB, MemoryDevice
from trainables.memory.errors import is_out_of_memory
from trainables.memory.stages import StageLog
from trainables.reports import Fact, Report, TrialReport
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
    """Run one trial under its memory budget and report every epoch. Running out of memory is reported, never raised.

    The last report is made when the trial's memory was given back.

    Args:
        report: called after every epoch and at an early end. It may raise to stop the trial.
        device: where to run; None takes the first CUDA device, else the CPU, with the budget of the settings.

    Raises:
        DataError, ModelLoadError, UnknownModelError, NonFiniteLossError: as loading and training raise them; these
            and all other exceptions are failures of the trial.
    """
    device = device or current_device(settings.memory.budget_gib)
    with device.enforce():
        device.reset_peak()
        budget = device.budget_bytes()
        stages = StageLog(device)
        stages.reached("trial start")

        def memory_facts() -> dict[str, Fact]:
            return {"peak_gib": device.peak_bytes() / GIB, "budget_gib": budget / GIB, **stages.facts()}

        def report_epoch(said: TrialReport) -> None:
            report(replace(said, facts={**said.facts, **memory_facts()}))

        progress = Progress()
        try:
            last = _load_train_report(settings, report_epoch, places, device, progress, stages)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Only figures and text leave this block: the traceback keeps the failed frames' tensors alive.
            last = _oom_report(settings, progress, error, device.needed_bytes(error), budget)
        device.release()
        stages.reached("trial end")
        report_epoch(last)


def _load_train_report(
    settings: TrialSettings,
    report: Report,
    places: TrialPlaces,
    device: MemoryDevice,
    progress: Progress,
    stages: StageLog,
) -> TrialReport:
    """Report every epoch but the last, whose report is returned: by then, nothing of the session is left."""
    session = TrainingSession(settings, places.cache, device, progress)
    stages.reached("model loaded")

    def epoch_report(checkpoint: Path | None) -> TrialReport:
        ended, reason = _end_of(progress, settings)
        return TrialReport(
            epoch=progress.epoch,
            value=progress.values[-1],
            metrics=dict(progress.metrics),
            facts=session.facts(),
            ended=ended,
            reason=reason,
            checkpoint=checkpoint,
        )

    if places.resume_from is not None:
        session.resume(places.resume_from)
        said = epoch_report(checkpoint=None)
        if said.ended:
            # It was interrupted between its last checkpoint and its end: only that is left to be said.
            return said

    stages.reached("training start")
    while True:
        loss = session.train_epoch()
        scores = session.evaluate("validation")
        progress.values.append(scores[session.task.objective])
        progress.metrics = {"train_loss": loss, **scores}
        said = epoch_report(session.save(places.checkpoints / f"epoch-{progress.epoch}"))
        if said.ended:
            stages.reached("training end")
            return said
        report(said)


def _end_of(progress: Progress, settings: TrialSettings) -> tuple[Literal["complete"] | None, str | None]:
    if progress.epoch >= settings.train.epochs:
        return "complete", None
    waited = progress.epoch - progress.best_epoch
    if settings.train.patience is not None and waited >= settings.train.patience:
        return "complete", f"patience: no better epoch in {waited} since epoch {progress.best_epoch}"
    return None, None


def _oom_report(
    settings: TrialSettings, progress: Progress, error: Exception, needed: int | None, allowed: int
) -> TrialReport:
    train = settings.train
    where = (
        f"model {settings.model.name}, batch {train.batch_size}, accumulation {train.grad_accum}, "
        f"length {settings.tok.max_length}"
    )
    message = (str(error).splitlines() or [type(error).__name__])[0]
    facts: dict[str, Fact] = {**batch_facts(settings), "recoveries": progress.recoveries}
    if needed is not None:
        facts |= {"need_gib": needed / GIB, "allowed_gib": allowed / GIB}
    return TrialReport(epoch=progress.epoch, value=math.nan, facts=facts, ended="oom", reason=f"{where}: {message}")
