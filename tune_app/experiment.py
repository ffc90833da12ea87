"""Assembly of a search, from its configuration to its end.

``_run_search`` shows the whole run: configuration → data → study → trials on Ray (``distributed/run.py``) → result.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from optuna.trial import TrialState

from trainables.machine import MachineFiles
from tune_app.config import RunConfig
from tune_app.console import Console
from tune_app.distributed.addresses import check_address
from tune_app.distributed.breaker import Breakage, LoopEnd
from tune_app.distributed.questions import check_cluster, joins_cluster, ray_runs_here, ray_starts_here
from tune_app.distributed.ray_files import find_sessions_folder
from tune_app.distributed.study_run import StudyRun
from tune_app.distributed.trial import RunTrial, train_encoder
from tune_app.errors import UserError, without_password
from tune_app.folders import check_own_folders, made_folder
from tune_app.forecast.opening import hours_line, hours_question, short_forecast, trial_seconds
from tune_app.forecast.overheads import measured_overheads, record_overheads
from tune_app.forecast.time_forecast import TimeForecast
from tune_app.outcomes import own_trials
from tune_app.progress.display import display_of
from tune_app.progress.opening import data_lines, yardstick_of
from tune_app.screening.packing import Packing
from tune_app.screening.preconditions import check_cpu, check_gpus, study_record, with_classes_of_data
from tune_app.screening.screen import Screen, screen_here
from tune_app.screening.unread_parameters import check_training
from tune_app.study.budget import SearchClock, TrialSeconds
from tune_app.study.differences import print_differences
from tune_app.study.record import StudyRecord
from tune_app.study.remote import LOCAL_FILES, PermanentStorage, open_permanent_storage
from tune_app.study.reporting import StudyStatus, study_status, was_launched
from tune_app.study.run_dir import check_study_dir, check_unlinked, checkpoint_storage, keep_config
from tune_app.study.store import LOCK_FILE, StudyStore, quiet_optuna, search_lock
from tune_app.study.unfinished import withdraw
from tune_app.study.versions import Consent, Opening, begin, check_change, choose, make_room
from tune_app.tracking import Tracking, flat, open_tracking
from tune_app.uris import is_store
from tune_app.voice import Voice


class NewStudyCheck(Protocol):
    """Check of a configuration before its study begins; it raises ``UserError`` to refuse.

    Args:
        from_here: whether trials run on this machine, and so need the hub's models here.
    """

    def __call__(self, config: RunConfig, say: Callable[[str], None], *, from_here: bool) -> None: ...


@dataclass(frozen=True)
class SearchEnd:
    """End of a search.

    Attributes:
        location: path or URI by which the commands find the study again.
        why: reason for the end, in a sentence.
        interrupted: whether a signal ended the search.
        warnings: problems that did not end the search, for the user.
        breakage: reason for which the search was aborted; None if it was not.
    """

    status: StudyStatus
    run_dir: Path
    location: str
    why: str
    interrupted: bool
    warnings: tuple[str, ...] = ()
    breakage: Breakage | None = None


def run_search(
    config: RunConfig,
    *,
    console: Console,
    quiet: bool = False,
    address: str | None = None,
    fresh: bool = False,
    consent: Consent | None = None,
    agree: Consent | None = None,
    run_trial: RunTrial = train_encoder,
    checks: Sequence[NewStudyCheck] = (check_training,),
) -> SearchEnd:
    """Begin or resume a study, and run it until it holds ``search.trials`` launched trials.

    If its space, settings or data changed, ``study.on_change`` decides what becomes of the existing study.

    Args:
        address: address of a Ray cluster to join; None starts Ray on this machine, or joins the job's cluster.
        fresh: begin a new version of the study beside it.
        consent: function that asks whether to delete a study; None never deletes one.
        agree: function that asks whether to begin a new search that is planned to take long; None begins it.
        run_trial: function that runs a trial.
        checks: checks of a new study; another ``run_trial`` may need other ones.

    Raises:
        UserError: the configuration, the data or the storage does not allow the search.
    """
    check_own_folders()
    request = _Request(address, fresh, consent, agree, run_trial, checks)
    with Voice(console, quiet=quiet) as voice, quiet_optuna():
        return _run_search(config, request, voice)


@dataclass(frozen=True)
class _Request:
    """Arguments of ``run_search`` beside the configuration, and the begin of the search.

    Attributes:
        began_at: seconds since the epoch.
        began: seconds of the monotonic clock.
    """

    address: str | None
    fresh: bool
    consent: Consent | None
    agree: Consent | None
    run_trial: RunTrial
    checks: Sequence[NewStudyCheck]
    began_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)


def _run_search(config: RunConfig, request: _Request, voice: Voice) -> SearchEnd:
    check_machine(config, request.address)
    voice.doing("reading the data")
    config = with_classes_of_data(config)
    record = study_record(config)
    opening = _chosen(config, record, voice, request)
    config, run_dir = opening.config, Path(opening.config.run_dir)
    with made_folder(run_dir, "study.dir", traces=[LOCK_FILE, *LOCAL_FILES]), ExitStack() as stack:
        screen = _check_new(config, voice, request) if opening.is_new else None
        plan = None if screen is None else _planned(config, screen, voice, request.agree)
        voice.doing("opening the cluster and the storage of checkpoints")
        check_storage(config, request.address)
        # The checks have passed, so changes to studies begin here. Only Ray and its nodes can still refuse the search.
        voice.doing("opening the study and carrying over trials")
        if message := make_room(opening):
            voice.say(message)
            # The changed study was archived or deleted with its run directory.
            run_dir.mkdir(exist_ok=True)
        stack.enter_context(search_lock(run_dir))
        permanent_storage = stack.enter_context(open_permanent_storage(config, voice.say))
        store, changed = _opened(opening, permanent_storage, voice)
        clock = SearchClock(store, request.began)
        has_work = _has_work(store)
        if has_work:
            _record_plan(store, plan)
            _show_data(config, store, voice, request.address)
        progress = stack.enter_context(display_of(config, store, voice))
        if has_work:
            trial_s = _trial_seconds(config, request.address, stack)
            run = StudyRun(
                config,
                record,
                store,
                permanent_storage,
                progress,
                voice,
                request.address,
                request.run_trial,
                clock,
                trial_s,
            )
            end, tracking = _search(run, screen, opening)
        else:
            end, tracking = LoopEnd(_nothing_to_do(store, changed)), open_tracking(config, store)
        if not end.interrupted and not end.breakage:
            _check_nothing_open(store)
        voice.doing("writing the last runs to MLflow, and the study")
        warnings = tuple(tracking.flush())
        clock.record()
    if ray_starts_here(request.address):
        _record_overheads(config, store, request.began_at)
    status = study_status(store, is_running=False)
    return SearchEnd(
        status, run_dir, without_password(config.location), end.why, end.interrupted, warnings, end.breakage
    )


def check_machine(config: RunConfig, address: str | None) -> None:
    """Check what a search needs of this machine, before there is a study."""
    check_study_dir(config)
    check_address(address)
    if joins_cluster(address):
        return
    check_cpu(config)
    if not ray_runs_here():
        check_gpus(config)
        # Refuse the search now if no folder is suitable for Ray's sockets.
        find_sessions_folder()


def _chosen(config: RunConfig, record: StudyRecord, voice: Voice, request: _Request) -> Opening:
    """Choose the version of the study to run, and ask before a changed one is deleted."""
    voice.doing("looking for the study and its versions")
    opening = choose(config, record, fresh=request.fresh, say=voice.say)
    # No activity is shown while a question waits for its answer.
    voice.doing("")
    if opening.changed is not None and not voice.is_quiet:
        print_differences(voice.console, opening.changed.name, opening.differences)
    check_change(opening, request.consent)
    check_unlinked(opening.config)
    return opening


def _check_new(config: RunConfig, voice: Voice, request: _Request) -> Screen | None:
    """Check a new study; return its screen if the search will start Ray on this machine."""
    from_here = ray_starts_here(request.address)
    voice.doing("checking the models of the space")
    for check in request.checks:
        check(config, voice.say, from_here=from_here)
    if not from_here:
        return None
    voice.doing("predicting the memory of the space")
    return screen_here(config, voice.say)


def _planned(config: RunConfig, screen: Screen, voice: Voice, agree: Consent | None) -> TimeForecast | None:
    """Return the time of a new search as far as this machine knows it, and ask before a long one."""
    voice.doing("planning the hours")
    plan = short_forecast(config, screen)
    voice.say(hours_line(plan))
    question = hours_question(config, plan)
    if question is not None and agree is not None:
        # No activity is shown while a question waits for its answer.
        voice.doing("")
        agree(question)
    return plan


def _record_plan(store: StudyStore, plan: TimeForecast | None) -> None:
    if plan is not None:
        store.set_time(replace(store.time, planned={**plan.as_dict()["hours"], "trials": store.target}))


def _trial_seconds(config: RunConfig, address: str | None, stack: ExitStack) -> Callable[[Packing], TrialSeconds]:
    if not ray_starts_here(address):
        # The record of another machine's trials is not here: the study's own trials are known alone.
        return lambda packing: lambda params: None
    return trial_seconds(config, stack)


def check_storage(config: RunConfig, address: str | None) -> None:
    """Check that checkpoints can be stored, on the cluster to join or from here."""
    if joins_cluster(address):
        check_cluster(config, address)
    elif config.checkpoint.dir is not None and config.checkpoint.is_written:
        # The search itself would find an unusable folder only after the first epoch.
        checkpoint_storage(config).check()


def _opened(opening: Opening, permanent_storage: PermanentStorage, voice: Voice) -> tuple[StudyStore, list[str]]:
    """Open or begin the study; return it with the changed settings among those that a study may change."""
    config = opening.config
    store, carried = begin(opening, opening.parent)
    if carried:
        voice.say(carried)
    store.set_target(config.search.trials)
    changed = _changed_course(store, config)
    keep_config(store, config, Path(config.run_dir))
    permanent_storage.save(at_once=True)
    return store, changed


def _show_data(config: RunConfig, store: StudyStore, voice: Voice, address: str | None) -> None:
    voice.doing("counting the data")
    yardstick = yardstick_of(config)
    store.set_baselines(yardstick.baselines)
    store.set_standard_error(yardstick.standard_error)
    if not voice.is_quiet:
        voice.say("\n".join(data_lines(config, from_here=ray_starts_here(address))))


def _search(run: StudyRun, screen: Screen | None, opening: Opening) -> tuple[LoopEnd, Tracking]:
    """Run the trials; a search that Ray or a node of a cluster refuses leaves no new study behind."""
    run.voice.doing("starting Ray" if ray_starts_here(run.address) else "joining Ray")
    # Ray takes seconds to import, so a search that was refused earlier does not import it.
    from tune_app.distributed.run import run_trials

    try:
        return run_trials(run, screen)
    except UserError:
        if opening.is_new and not is_store(run.config.study.dir) and not own_trials(run.store.trials()):
            withdraw(run.store, Path(run.config.run_dir))
        raise


def _record_overheads(config: RunConfig, store: StudyStore, began: float) -> None:
    """Record the time of this search beside its trials, for later plans."""
    measured = measured_overheads(store.trials(), config.search.max_concurrent, began=began, ended=time.time())
    if measured is not None:
        record_overheads(MachineFiles().searches, measured)


def _nothing_to_do(store: StudyStore, changed: Sequence[str]) -> str:
    """Return the reason why nothing is run, with the changed settings that have no effect for that reason."""
    why = f"the study holds its {store.target} launched trials already"
    return f"{why}, so nothing changed for {', '.join(changed)}; raise search.trials to go on" if changed else why


def _changed_course(store: StudyStore, config: RunConfig) -> list[str]:
    """Return the settings that a study may change and that changed since the last search, as ``name=value``."""
    if store.config is None:
        return []
    before = flat(store.config)
    sections = ("search", "scheduler", "resources", "limits", "memory", "trial")
    # search.trials is the target itself, and a changed scheduler.rung makes another study. The study records the value
    # that a rung of auto stands for, so auto would always count as changed.
    not_compared = ("search.trials", "scheduler.rung")
    return [
        f"{name}={value}"
        for name, value in flat(config.as_dict()).items()
        if name.partition(".")[0] in sections and name not in not_compared and before.get(name) != value
    ]


def _has_work(store: StudyStore) -> bool:
    trials = store.trials()
    return sum(map(was_launched, trials)) < store.target or any(trial.state == TrialState.RUNNING for trial in trials)


def _check_nothing_open(store: StudyStore) -> None:
    left = [trial.number for trial in store.trials() if trial.state == TrialState.RUNNING]
    if left:
        raise RuntimeError(f"trials {left} were left open at the end of the search; this is a bug in headroom")
