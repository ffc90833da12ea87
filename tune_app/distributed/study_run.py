"""Study that is open for one run of its trials. Ray is not needed here."""

from collections.abc import Callable
from dataclasses import dataclass

from tune_app.config import RunConfig
from tune_app.distributed.trial import RunTrial
from tune_app.progress.plain import SearchDisplay
from tune_app.screening.packing import Packing
from tune_app.study.budget import SearchClock, TrialSeconds
from tune_app.study.record import StudyRecord
from tune_app.study.remote import PermanentStorage
from tune_app.study.store import StudyStore
from tune_app.voice import Voice


@dataclass(frozen=True)
class StudyRun:
    """Study that is open for one run, with everything that the steps of the run share.

    Attributes:
        config: configuration as the study stores it.
        permanent_storage: permanent storage of the study.
        address: address of a Ray cluster to join; None starts Ray on this machine, or joins the job's cluster.
        run_trial: function that runs a trial.
        clock: clock of the time that the study has taken.
        trial_s: function from the packing of the trials to the seconds of a trial, by the plan.
    """

    config: RunConfig
    record: StudyRecord
    store: StudyStore
    permanent_storage: PermanentStorage
    progress: SearchDisplay
    voice: Voice
    address: str | None
    run_trial: RunTrial
    clock: SearchClock
    trial_s: Callable[[Packing], TrialSeconds]
