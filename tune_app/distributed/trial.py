"""One trial in a worker: the function that runs it, and what the worker gives it. Ray is not needed here."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainables.reports import Report
from trainables.settings import TrialSettings
from tune_app.printable import PrintableFormatter


class RunTrial(Protocol):
    """Function that runs a trial: ``trainables.trial.run_trial``, or a stand-in in tests and benches."""

    def __call__(self, settings: TrialSettings, report: Report, workspace: "Workspace") -> None: ...


@dataclass(frozen=True)
class Workspace:
    """Resources of a trial: a cache shared on the node, a folder for checkpoints, and a checkpoint to resume from.

    ``checkpoints`` is the folder for its checkpoints; None if none are saved. ``share`` is the trial's share of a card,
    or of the host's memory. ``card`` is Ray's number of the card on this node, whether the card exists or is only
    claimed, or ``cpu``. ``at_once`` is the number of trials that run at a time. ``plans`` is the text of the memory
    plans that accepted the configuration; None without any.
    """

    cache: Path
    checkpoints: Path | None
    resume_from: Path | None
    threads: int
    share: float
    card: str
    at_once: int = 1
    plans: str | None = None


def train_encoder(settings: TrialSettings, report: Report, workspace: Workspace) -> None:
    """Run one real trial. The imports are heavy and happen only in the worker."""
    from trainables.content import inputs_checked
    from trainables.devices.current import current_device
    from trainables.planning.accepted import AcceptedPlans
    from trainables.threads import limit_threads
    from trainables.trial import TrialFolders, run_trial
    from trainables.worker import check_worker_is_clean

    _log_to_stderr()
    limit_threads(workspace.threads)
    folders = TrialFolders(workspace.cache, workspace.checkpoints, workspace.resume_from, at_once=workspace.at_once)
    device = current_device(
        settings.memory.budget_gib,
        workspace.share,
        device_gib=settings.memory.device_gib,
        card=workspace.card,
        folder=folders.machine.cards,
    )
    check_worker_is_clean(device)
    with inputs_checked(settings):
        accepted = None if workspace.plans is None else AcceptedPlans.from_text(workspace.plans)
        run_trial(settings, report=report, folders=folders, device=device, accepted=accepted)


def _log_to_stderr() -> None:
    """Send the trial's log lines to this worker's own log file, which Ray keeps and the driver does not print."""
    logger = logging.getLogger("headroom")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(PrintableFormatter("%(asctime)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
