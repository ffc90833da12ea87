"""Scores of a trained model on the test part, which no search reads."""

import math
from pathlib import Path

from trainables.devices.device import MemoryDevice
from trainables.devices.errors import OutOfMemory
from trainables.planning.accepted import AcceptedPlans
from trainables.reports import RESAMPLED, Report, TrialReport
from trainables.session import TrainingSession
from trainables.settings import TrialSettings
from trainables.trial import TrialFolders, attempted
from trainables.worker import MemoryTakenError

RESAMPLES = 500
"""Number of draws of the test part's groups."""


def score_test_part(
    settings: TrialSettings,
    checkpoint: Path,
    *,
    report: Report,
    folders: TrialFolders,
    device: MemoryDevice,
    accepted: AcceptedPlans | None = None,
) -> None:
    """Score the model of a checkpoint on the test part and report it once. Running out of memory is reported, too.

    Args:
        settings: settings of the run that wrote the checkpoint.
        accepted: memory plans that accepted the settings before launch; None predicts the need here.

    Raises:
        MemoryTakenError: memory ran out, but not by the run's own need.
        DataError, ModelLoadError: the data or the model cannot be loaded.
    """

    def scored() -> TrialReport:
        session = TrainingSession(settings, folders.cache, device, with_test=True)
        session.plan_memory(folders.machine, accepted)
        session.resume(checkpoint)
        scores, resampled = session.evaluate_test(RESAMPLES)
        return TrialReport(
            step=1,
            value=scores.metrics[settings.task.metric],
            metrics={**scores.metrics, "collapsed": float(scores.collapsed)},
            facts={**session.facts(), RESAMPLED: " ".join(f"{value:.6f}" for value in resampled)},
            ended="complete",
            breakdowns=scores.breakdowns,
        )

    with device.enforce():
        last = attempted(scored, device)
        if not isinstance(last, OutOfMemory):
            report(last)
        elif last.cause == "own":
            report(TrialReport(step=1, value=math.nan, ended="oom", reason=last.message))
        else:
            raise MemoryTakenError(last.cause, last.message)
