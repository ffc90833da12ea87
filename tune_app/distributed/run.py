"""One run of a study's trials on Ray: ``run_trials`` lists its steps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.schedulers import TrialScheduler

from trainables.declaration import values_of
from trainables.devices.facts import torch_facts
from trainables.seeds import sub_seed
from trainables.settings import ContentSettings
from tune_app.config import RunConfig
from tune_app.distributed.breaker import CircuitBreaker, Halt, LoopEnd
from tune_app.distributed.cluster import Cluster, Offer, joined
from tune_app.distributed.endings import Endings
from tune_app.distributed.interrupts import end_loop, interruptible
from tune_app.distributed.loop import run_loop
from tune_app.distributed.private import dead_processes
from tune_app.distributed.questions import host_share_on, screen_on, trial_files
from tune_app.distributed.recorder import StudyRecorder
from tune_app.distributed.scheduler import build_scheduler, waiting_trials
from tune_app.distributed.searcher import HeadroomSearch, OpenTrial, open_trials
from tune_app.distributed.spared import PastTrial
from tune_app.distributed.study_run import StudyRun
from tune_app.distributed.trainable import make_trainable, watch_timeout_s
from tune_app.distributed.watch import Watch, ray_health
from tune_app.outcomes import MOST_RETRIES, Outcome, own_trials
from tune_app.progress.opening import study_lines
from tune_app.sampling.proposers import build_proposer
from tune_app.sampling.recommended import recommended_left, recommended_turns
from tune_app.schedulers import SCHEDULERS
from tune_app.screening.preconditions import architectures
from tune_app.screening.screen import Screen
from tune_app.study.budget import Budget
from tune_app.study.checkpoints import CheckpointKeeper, StudyCheckpoints
from tune_app.study.remaining import Course
from tune_app.study.reporting import outcome_of, was_launched
from tune_app.study.run_dir import CACHE, study_checkpoints
from tune_app.study.storage_location import StoreUnavailableError, store_errors
from tune_app.tracking import Tracking, open_tracking
from tune_app.uris import is_store
from tune_app.voice import Voice

Trainable = Callable[[Mapping[str, Any]], None]


def run_trials(run: StudyRun, screen: Screen | None) -> tuple[LoopEnd, Tracking]:
    """Run trials until the study reaches its target, or the search ends earlier.

    Args:
        screen: screen that was built before Ray started; None builds it for the cluster.

    Raises:
        UserError: the cluster or the storage does not allow the search.
    """
    config, store, voice, say = run.config, run.store, run.voice, run.progress.message
    trials = store.trials()
    checkpoints = study_checkpoints(config, store.id, say)
    left_open = _take_up(run, checkpoints, trials)
    with joined(run.address, offered(config)) as cluster, interruptible(_interruption_notice(voice)) as signal:
        gpus = cluster.gpus_per_trial(config.resources.gpu)
        cluster.check_fits(cpu=config.resources.cpu, gpu=gpus)
        say(study_lines(config, store, cluster.dashboard_url))
        voice.doing("predicting the memory of the space")
        screen = screen or screen_on(cluster, config, gpus, say)
        trainable = _trainable(run, cluster, checkpoints)
        voice.doing("updating MLflow")
        # Open tracking only now, so that a refused search is not tracked.
        tracking = open_tracking(config, store)
        searcher = _searcher(run, screen, trials, left_open)
        scheduler = _scheduler(run, searcher, trials)
        halt = Halt(lambda why: _end(searcher, why))
        keeper = CheckpointKeeper(checkpoints, _most_checkpoints(config), own_trials(trials))
        recorder = _recorder(run, searcher, scheduler, keeper, tracking, halt)
        voice.doing("proposing the first trials, which load their models")
        _run_loop(run, trainable, searcher, scheduler, recorder, halt, checkpoints)
        voice.doing("ending Ray and its workers")
        _remove_interrupted_checkpoints(run, checkpoints)
    return _loop_end(searcher, halt, signal), tracking


def _take_up(run: StudyRun, checkpoints: StudyCheckpoints, trials: Sequence[FrozenTrial]) -> list[OpenTrial]:
    """Delete orphaned checkpoints of an interrupted search, and return the trials that it left open."""
    with checkpoints.storage.as_storage_errors():
        # The records in permanent storage may be older and name checkpoints that ours no longer do, so save ours first.
        if run.permanent_storage.save(at_once=True):
            checkpoints.remove_orphans(own_trials(trials))
        return open_trials(run.store, checkpoints)


def offered(config: RunConfig) -> Offer:
    """Return what a Ray that is started here offers the search."""
    # A card that is simulated on the CPU counts as one GPU, which trials share like an existing one.
    claimed = 1 if config.memory.device_gib is not None and not torch_facts().devices else None
    resources = config.resources
    cpus = config.search.max_concurrent * resources.cpu
    return Offer(cpus, claimed, resources.niceness, dashboard=resources.ray_dashboard)


def _most_checkpoints(config: RunConfig) -> Any:
    return 0 if config.checkpoint.keep == "none" else config.checkpoint.keep


def _trainable(run: StudyRun, cluster: Cluster, checkpoints: StudyCheckpoints) -> Trainable:
    config, record = run.config, run.record
    content = ContentSettings(record.data_fingerprint, tuple(record.models.items()))
    return make_trainable(
        replace(config.trial_settings(), content=content),
        Path(config.run_dir) / CACHE,
        files=trial_files(config, cluster, run.progress.message),
        storage=checkpoints.storage if config.checkpoint.is_written else None,
        folder=checkpoints.folder,
        threads=config.resources.cpu,
        host_share=host_share_on(cluster, config),
        at_once=config.search.max_concurrent,
        timeout_s=config.trial.timeout_s,
        run_trial=run.run_trial,
    )


def _searcher(
    run: StudyRun, screen: Screen, trials: Sequence[FrozenTrial], left_open: Sequence[OpenTrial]
) -> HeadroomSearch:
    config, store, search = run.config, run.store, run.config.search
    space = config.active_space()
    # Every start has another seed, or a resumed search would draw its first points again.
    seed = sub_seed(search.seed, f"sampler:{len(trials)}")
    return HeadroomSearch(
        store,
        build_proposer(
            search.sampler,
            space,
            store.study,
            store.distributions,
            seed,
            settings=values_of(search, with_defaults=True),
        ),
        rules=screen.rules,
        fixed=config.fixed_params(),
        gpus=screen.packing.gpus,
        plans=screen.packing.plans,
        adopt=left_open,
        launched=sum(map(was_launched, trials)),
        total=store.target,
        max_concurrent=search.max_concurrent,
        ask_ahead=SCHEDULERS[config.scheduler.name].ask_ahead,
        max_rejections=search.max_rejections,
        recommended=recommended_turns(space, architectures(config), sub_seed(search.seed, "recommended")),
        most_recommended=recommended_left(search.recommended, search.sampler, trials),
        why_end=_endings(run, screen).why,
    )


def _endings(run: StudyRun, screen: Screen) -> Endings:
    max_hours = run.config.search.max_hours
    budget = None
    if max_hours is not None:
        budget = Budget(3600 * max_hours, Course.of(run.config), run.trial_s(screen.packing))
    noise = run.store.standard_error if run.config.search.stop == "auto" else None
    return Endings(run.store, budget, noise, lambda: run.clock.taken_s)


def _scheduler(run: StudyRun, searcher: HeadroomSearch, trials: Sequence[FrozenTrial]) -> TrialScheduler:
    config, scheduling = run.config, run.config.scheduler
    return build_scheduler(
        scheduling.name,
        steps=config.step_scale.count,
        warmup=config.first_rung,
        reduction_factor=scheduling.reduction_factor,
        startup_trials=scheduling.startup_trials,
        past=[PastTrial.of(trial) for trial in trials if outcome_of(trial) is not Outcome.INFEASIBLE],
        no_more=lambda: searcher.end is not None,
        slots=config.search.max_concurrent,
        pauses=config.checkpoint.is_written,
        settings=values_of(scheduling, with_defaults=True),
    )


def _recorder(
    run: StudyRun,
    searcher: HeadroomSearch,
    scheduler: TrialScheduler,
    keeper: CheckpointKeeper,
    tracking: Tracking,
    halt: Halt,
) -> StudyRecorder:
    progress, breaker = run.progress, CircuitBreaker(halt.broken)

    def closed(trial: FrozenTrial) -> None:
        run.clock.keep()
        tracking.trial_closed(trial)
        progress.closed(trial)
        breaker.closed(trial)

    return StudyRecorder(
        run.store,
        searcher,
        keeper,
        permanent_storage=run.permanent_storage,
        step_scale=run.config.step_scale,
        scheduler=run.config.scheduler.name,
        timeout_s=run.config.trial.timeout_s,
        on_report=progress.reported,
        on_retry=progress.retried,
        on_note=lambda live, note: progress.message(f"trial {live.number:>4}  {note}"),
        on_halt=halt.halted,
        on_close=closed,
        on_step=progress.step,
        waiting=lambda: waiting_trials(scheduler),
    )


def _run_loop(
    run: StudyRun,
    trainable: Trainable,
    searcher: HeadroomSearch,
    scheduler: TrialScheduler,
    recorder: StudyRecorder,
    halt: Halt,
    checkpoints: StudyCheckpoints,
) -> None:
    cpus = run.config.resources.cpu
    health = ray_health(cpus, dead_processes)
    timeout_s = watch_timeout_s(run.config.trial.timeout_s, checkpoints.storage)
    watch = Watch(timeout_s=timeout_s, lost=health.lost, on_halt=halt.halted)
    with health.asking():
        run_loop(
            trainable,
            searcher=searcher,
            scheduler=scheduler,
            callbacks=[recorder, watch],
            cpus=cpus,
            checkpoints=checkpoints,
            retries=MOST_RETRIES,
            answers=health.answers,
        )


def _end(searcher: HeadroomSearch, why: str) -> None:
    searcher.stop(why)
    end_loop()


def _remove_interrupted_checkpoints(run: StudyRun, checkpoints: StudyCheckpoints) -> None:
    """Delete checkpoints in a store whose writing was interrupted. If that fails, the next search does it."""
    if is_store(checkpoints.storage.address) and run.permanent_storage.save(at_once=True):
        with suppress(OSError, StoreUnavailableError), store_errors():
            checkpoints.remove_orphans(own_trials(run.store.trials()))


def _loop_end(searcher: HeadroomSearch, halt: Halt, signal: Event) -> LoopEnd:
    if signal.is_set():
        return LoopEnd("the same command resumes the search", interrupted=True)
    if halt.breakage is not None:
        return LoopEnd(halt.breakage.why, breakage=halt.breakage)
    return LoopEnd(searcher.end or "every trial ended")


def _interruption_notice(voice: Voice) -> Callable[[], None]:
    def notify() -> None:
        voice.say("interrupted: open trials keep their last checkpoints; a second signal ends the search at once")
        voice.doing("ending the running trials")

    return notify
