"""One trial in a worker: the function that runs it, and what the worker gives it. Ray is not needed here."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainables.reports import Report
from trainables.settings import TrialSettings
from tune_app.printable import PrintableFormatter

if TYPE_CHECKING:
    from trainables.devices.device import MemoryDevice
    from trainables.planning.accepted import AcceptedPlans
    from trainables.trial import TrialFolders


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
    from trainables.trial import run_trial

    folders, device, accepted = _prepared(settings, workspace)
    with inputs_checked(settings):
        run_trial(settings, report=report, folders=folders, device=device, accepted=accepted)


def score_encoder(settings: TrialSettings, report: Report, workspace: Workspace) -> None:
    """Score the model of the checkpoint to resume from on the test part, which no search may do.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    from trainables.content import inputs_checked
    from trainables.held_out import score_test_part

    if workspace.resume_from is None:
        raise FileNotFoundError("the checkpoint of the model to test is gone")
    folders, device, accepted = _prepared(settings, workspace)
    with inputs_checked(settings):
        score_test_part(
            settings, workspace.resume_from, report=report, folders=folders, device=device, accepted=accepted
        )


def _prepared(
    settings: TrialSettings, workspace: Workspace
) -> "tuple[TrialFolders, MemoryDevice, AcceptedPlans | None]":
    """Prepare this worker for a run; return the run's folders, its device, and the plans that accepted it."""
    from trainables.devices.current import current_device
    from trainables.planning.accepted import AcceptedPlans
    from trainables.threads import limit_threads
    from trainables.trial import TrialFolders
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
    return folders, device, None if workspace.plans is None else AcceptedPlans.from_text(workspace.plans)


def _log_to_stderr() -> None:
    """Send the trial's log lines to this worker's own log file, which Ray keeps and the driver does not print."""
    logger = logging.getLogger("headroom")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(PrintableFormatter("%(asctime)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
