"""Assembly and execution of a search: the only module that knows all the others.

From top to bottom, it shows the whole run: configuration → data → study → searcher, scheduler, recorder → Ray → result.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from search_spaces.rules import Rule
from trainables.machine import MachineFiles
from trainables.seeds import sub_seed
from trainables.settings import ContentSettings
from tune_app.config import RunConfig
from tune_app.console import Console
from tune_app.distributed.addresses import check_address, cluster_address
from tune_app.distributed.breaker import Breakage, CircuitBreaker
from tune_app.distributed.interrupts import end_loop, interruptible
from tune_app.distributed.ray_files import find_sessions_folder
from tune_app.errors import UserError, without_password
from tune_app.folders import check_own_folders, made_folder
from tune_app.outcomes import MOST_RETRIES, WAITS_ATTRIBUTE, Outcome, carried_from
from tune_app.progress.live_table import LiveTable
from tune_app.progress.opening import baselines_of, data_lines
from tune_app.progress.plain import PlainLines, Progress, Quiet
from tune_app.screening.combinations import combination_rules
from tune_app.screening.preconditions import (
    check_cpu,
    check_gpus,
    check_models,
    model_names,
    study_record,
    with_classes_of_data,
)
from tune_app.screening.unread_parameters import check_parameters_are_read
from tune_app.study.differences import print_differences
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course
from tune_app.study.remote import LOCAL_FILES, Kept, kept
from tune_app.study.reporting import StudyStatus, is_recommended, outcome_of, study_status, was_launched
from tune_app.study.run_dir import (
    ARTIFACTS,
    CACHE,
    check_study_dir,
    check_unlinked,
    checkpoint_storage,
    keep_config,
    shown_config,
    study_checkpoints,
    tracking_uri,
)
from tune_app.study.store import LOCK_FILE, StudyStore, quiet_optuna, search_lock
from tune_app.study.unfinished import withdraw
from tune_app.study.versions import Consent, begin, check_change, choose, make_room, parent_of
from tune_app.tracking import MlflowTracking, NoTracking, Tracking, flat
from tune_app.uris import is_store
from tune_app.voice import Voice

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice
    from trainables.models.families import Architecture
    from tune_app.distributed.cluster import Cluster
    from tune_app.distributed.nodes import TrialFiles
    from tune_app.distributed.trainable import RunTrial
    from tune_app.screening.packing import Gpus, Packing
    from tune_app.study.checkpoints import StudyCheckpoints


@dataclass(frozen=True)
class SearchEnd:
    """End of a search. ``why`` gives the reason in a sentence; ``warnings`` are for the person.

    Attributes:
        location: path or URI by which the commands find the study again.
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
    run_trial: "RunTrial | None" = None,
) -> SearchEnd:
    """Run a study until it holds ``search.trials`` launched trials, or resume it if it exists.

    If its space, settings or data changed, ``study.on_change`` decides on the existing study.

    Args:
        address: address of a Ray cluster to join; None starts Ray on this machine, or joins the job's cluster.
        fresh: begin a new version of the study beside it.
        consent: asks whether to delete a study; None deletes none.
        run_trial: function that runs a trial; None trains an encoder.

    Raises:
        UserError: the configuration, the data or the storage does not allow the search.
    """
    check_own_folders()
    with Voice(console, quiet=quiet) as voice, quiet_optuna():
        return _run_search(config, voice, address, fresh, consent, run_trial)


def _run_search(
    config: RunConfig,
    voice: Voice,
    address: str | None,
    fresh: bool,
    consent: Consent | None,
    run_trial: "RunTrial | None",
) -> SearchEnd:
    check_study_dir(config)
    check_address(address)
    if not _joins(address):
        check_cpu(config)
        if not _ray_runs_here():
            check_gpus(config)
            # Check before there is a study: no folder may be suitable for Ray's sockets.
            find_sessions_folder()
    say = voice.say
    voice.doing("reading the data")
    config = with_classes_of_data(config)
    record = study_record(config)
    voice.doing("looking for the study and its versions")
    opening = choose(config, record, fresh=fresh, say=say)
    # Be silent now, since a person may be asked a question.
    voice.doing("")
    if opening.changed is not None and not voice.is_quiet:
        print_differences(voice.console, opening.changed.name, opening.differences)
    check_change(opening, consent)
    config = opening.config
    check_unlinked(config)
    run_dir = Path(config.run_dir)
    screen = None
    with made_folder(run_dir, "study.dir", traces=[LOCK_FILE, *LOCAL_FILES]), ExitStack() as stack:
        if opening.is_new and run_trial is None:
            voice.doing("checking the models of the space")
            check_models(config, from_here=_ray_starts_here(address))
            check_parameters_are_read(config, model_names(config), say)
        if opening.is_new and _ray_starts_here(address):
            voice.doing("predicting the memory of the space")
            screen = _screen_here(config, say)
        voice.doing("opening the cluster and the storage of checkpoints")
        if _joins(address):
            _check_cluster(config, address)
        elif config.checkpoint.dir is not None and config.checkpoint.keep != "none":
            # Ray copies checkpoints there only after the first epoch.
            checkpoint_storage(config).check()
        # All checks that can refuse the search have passed.
        voice.doing("opening the study and carrying over trials")
        if told := make_room(opening):
            say(told)
            run_dir.mkdir(exist_ok=True)
        stack.enter_context(search_lock(run_dir))
        keeps = stack.enter_context(kept(config, say))
        store, carried = begin(opening, opening.parent)
        if carried:
            say(carried)
        store.set_target(config.search.trials)
        unread = _changed_course(store, config)
        keep_config(store, config, run_dir)
        keeps.save(at_once=True)
        if _has_work(store):
            voice.doing("counting the data")
            store.set_baselines(baselines_of(config))
            if not voice.is_quiet:
                say("\n".join(data_lines(config, from_here=_ray_starts_here(address))))
        progress = stack.enter_context(_progress(config, store, voice))
        if _has_work(store):
            try:
                end, tracking = _search(config, record, store, keeps, progress, voice, address, screen, run_trial)
            except UserError:
                # Only Ray or a node of a cluster can detect some problems, so withdraw the study that was just begun.
                if opening.is_new and not is_store(config.study.dir) and not _own(store.trials()):
                    withdraw(store, run_dir)
                raise
        else:
            tracking = open_tracking(config, store)
            why = f"the study holds its {store.target} launched trials already"
            if unread:
                why += f", so nothing changed for {', '.join(unread)}; raise search.trials to go on"
            end = _LoopEnd(why, interrupted=False)
        if not end.interrupted and not end.breakage:
            _check_nothing_open(store)
        voice.doing("writing the last runs to MLflow, and the study")
        warnings = tuple(tracking.flush())
    status = study_status(store, is_running=False)
    return SearchEnd(
        status, run_dir, without_password(config.location), end.why, end.interrupted, warnings, end.breakage
    )


def fork(parent: StudyStore, parent_dir: Path, config: RunConfig) -> tuple[RunConfig, str]:
    """Begin the study of a configuration with the fitting trials of another study, without running anything.

    Returns:
        The configuration with the new study's name, and a sentence on the trials carried over.

    Raises:
        UserError: the configuration, the data or the storage does not allow the study.
    """
    check_own_folders()
    check_study_dir(config)
    config = with_classes_of_data(config)
    record = study_record(config)
    opening = choose(config, record, fresh=True)
    config = opening.config
    run_dir = Path(config.run_dir)
    with made_folder(run_dir, "study.dir", traces=[LOCK_FILE, *LOCAL_FILES]), ExitStack() as stack:
        check_models(config, from_here=False)
        check_parameters_are_read(config, model_names(config), lambda _: None)
        stack.enter_context(search_lock(run_dir))
        stack.enter_context(kept(config))
        store, carried = begin(opening, parent_of(parent, parent_dir))
        store.set_target(config.search.trials)
        keep_config(store, config, run_dir)
    return config, carried or ""


@dataclass(frozen=True)
class _LoopEnd:
    why: str
    interrupted: bool
    breakage: Breakage | None = None


def _search(
    config: RunConfig,
    record: StudyRecord,
    store: StudyStore,
    keeps: Kept,
    progress: Progress,
    voice: Voice,
    address: str | None,
    screen: "_Screen | None",
    run_trial: "RunTrial | None",
) -> tuple[_LoopEnd, Tracking]:
    voice.doing("starting Ray" if _ray_starts_here(address) else "joining Ray")
    # Ray takes seconds to import, so all checks that can refuse the search come before.
    from trainables.devices.facts import torch_facts
    from tune_app.distributed.cluster import joined
    from tune_app.distributed.loop import run_loop
    from tune_app.distributed.private import dead_processes
    from tune_app.distributed.recorder import StudyRecorder
    from tune_app.distributed.scheduler import build_scheduler, waiting_trials
    from tune_app.distributed.searcher import HeadroomSearch
    from tune_app.distributed.spared import PastTrial
    from tune_app.distributed.trainable import make_trainable, train_encoder, watch_timeout_s
    from tune_app.distributed.watch import Watch, ray_health
    from tune_app.sampling.proposers import build_proposer
    from tune_app.sampling.recommended import recommended_turns
    from tune_app.study.checkpoints import CheckpointKeeper
    from tune_app.study.storage_location import StoreUnavailableError, store_errors

    assert config.space is not None
    search, scheduling, resources = config.search, config.scheduler, config.resources
    trials = store.trials()
    own = _own(trials)
    checkpoints = study_checkpoints(config, store.id, progress.message)
    storage = checkpoints.storage
    with storage.as_storage_errors():
        # Only once the store has our latest records: its own may still name older checkpoints.
        if keeps.save(at_once=True):
            checkpoints.remove_orphans(own)
        open_trials = _open_trials(store, checkpoints)
    keep = config.checkpoint.keep
    keeper = CheckpointKeeper(checkpoints, 0 if keep == "none" else keep, own)
    scheduler = build_scheduler(
        scheduling.name,
        steps=config.step_scale.count,
        warmup=config.first_rung,
        reduction_factor=scheduling.reduction_factor,
        startup_trials=scheduling.startup_trials,
        past=[
            PastTrial(
                trial.number,
                trial.intermediate_values,
                is_open=trial.state == TrialState.RUNNING,
                is_recommended=is_recommended(trial),
                waits=trial.user_attrs.get(WAITS_ATTRIBUTE) == max(trial.intermediate_values, default=0),
            )
            for trial in trials
            if outcome_of(trial) is not Outcome.INFEASIBLE
        ],
        no_more=lambda: searcher.end is not None,
        slots=search.max_concurrent,
        pauses=keep != "none",
    )
    # A card simulated on the CPU is packed like an existing one.
    claimed = 1 if config.memory.device_gib is not None and not torch_facts().devices else None
    cpus = search.max_concurrent * resources.cpu
    breakages: list[Breakage] = []
    with joined(address, cpus, claimed) as cluster, interruptible(_tell_interrupted(voice)) as asked:
        gpus = cluster.gpus_per_trial(resources.gpu)
        cluster.check_fits(cpu=resources.cpu, gpu=gpus)
        progress.message(_opening(config, store, cluster.dashboard_url))
        voice.doing("predicting the memory of the space")
        screen = screen or _screen_on(cluster, config, gpus, progress.message)
        files = _files_for(config, cluster, progress.message)
        trainable = make_trainable(
            replace(
                config.trial_settings(), content=ContentSettings(record.data_fingerprint, tuple(record.models.items()))
            ),
            Path(config.run_dir) / CACHE,
            files=files,
            storage=None if keep == "none" else storage,
            folder=checkpoints.folder,
            threads=resources.cpu,
            host_share=_host_share(config, cluster),
            timeout_s=config.trial.timeout_s,
            run_trial=run_trial or train_encoder,
        )
        voice.doing("updating MLflow")
        # Open tracking only now, so that a refused search is not tracked.
        tracking = open_tracking(config, store)
        searcher = HeadroomSearch(
            store,
            build_proposer(
                search.sampler,
                config.active_space(),
                store.study,
                store.distributions,
                # Every start has another seed, or a resumed search would draw its first points again.
                sub_seed(search.seed, f"sampler:{len(trials)}"),
            ),
            rules=screen.rules,
            fixed=config.fixed_params(),
            gpus=screen.packing.gpus,
            plans=screen.packing.plans,
            adopt=open_trials,
            launched=sum(map(was_launched, trials)),
            total=store.target,
            max_concurrent=search.max_concurrent,
            # HyperBand compares the trials of a bracket, so it must see the next one while another runs.
            ask_ahead=1 if scheduling.name == "hyperband" else 0,
            max_rejections=search.max_rejections,
            recommended=recommended_turns(
                config.active_space(), _architectures(config), sub_seed(search.seed, "recommended")
            ),
            most_recommended=_recommended_left(config, trials),
        )

        def break_off(breakage: Breakage) -> None:
            if breakages:
                return
            breakages.append(breakage)
            searcher.end = breakage.why
            end_loop()

        def halt(why: str) -> None:
            break_off(Breakage(why, traceback=""))

        recorder = StudyRecorder(
            store,
            searcher,
            keeper,
            kept=keeps,
            step_scale=config.step_scale,
            scheduler=scheduling.name,
            timeout_s=config.trial.timeout_s,
            on_report=progress.reported,
            on_retry=progress.retried,
            on_note=lambda live, note: progress.message(f"trial {live.number:>4}  {note}"),
            on_halt=halt,
            on_close=_each(tracking.trial_closed, progress.closed, CircuitBreaker(break_off).closed),
            on_step=progress.step,
            waiting=lambda: waiting_trials(scheduler),
        )
        voice.doing("proposing the first trials, which load their models")
        health = ray_health(resources.cpu, dead_processes)
        watch = Watch(
            timeout_s=watch_timeout_s(config.trial.timeout_s, storage),
            lost=health.lost,
            on_halt=halt,
        )
        with health.asking():
            run_loop(
                trainable,
                searcher=searcher,
                scheduler=scheduler,
                callbacks=[recorder, watch],
                cpus=resources.cpu,
                checkpoints=checkpoints,
                retries=MOST_RETRIES,
                answers=health.answers,
            )
        voice.doing("ending Ray and its workers")
        if is_store(storage.address) and keeps.save(at_once=True):
            # Delete checkpoints whose writing was interrupted. If that fails, the next search does it.
            with suppress(OSError, StoreUnavailableError), store_errors():
                checkpoints.remove_orphans(_own(store.trials()))
    if asked.is_set():
        return _LoopEnd("the same command resumes the search", interrupted=True), tracking
    if breakages:
        return _LoopEnd(breakages[0].why, interrupted=False, breakage=breakages[0]), tracking
    return _LoopEnd(searcher.end or "every trial ended", interrupted=False), tracking


@dataclass(frozen=True)
class _Screen:
    """Rules that reject configurations before launch, and packing of the accepted ones."""

    packing: "Packing"
    rules: list[Rule]


def _screen(config: RunConfig, device: "TrialDevice", gpus: "Gpus", say: Callable[[str], None]) -> _Screen:
    """Build the packing and the rules for a device, and report the share of the space that each rule rejects.

    Raises:
        UserError: the rules reject the whole space.
    """
    from tune_app.screening.filtering import build_rules, check_something_runs, count_rejections
    from tune_app.screening.packing import Packing

    assert config.space is not None
    passes = config.resources.passes
    packing = Packing(config.trial_settings(), device, gpus=gpus, passes=passes, files=MachineFiles(), say=say)
    rules = [
        *combination_rules(config, model_names(config)),
        *build_rules(config.limits, config.memory.max_accumulation, packing),
    ]
    if rules:
        found = count_rejections(rules, config.space, config.fixed_params(), sub_seed(config.search.seed, "rules"))
        check_something_runs(found, packing)
        say(str(found))
    return _Screen(packing, rules)


def _screen_here(config: RunConfig, say: Callable[[str], None]) -> _Screen:
    """Build packing and rules before Ray starts, for a search that will start it on this machine."""
    from trainables.devices.facts import torch_facts, trial_device

    memory, gpus = config.memory, config.resources.gpu
    if gpus == "auto" and not torch_facts().devices and memory.device_gib is None:
        gpus = 0
    device = trial_device(memory.device_gib, use_cuda=gpus != 0)
    return _screen(config, _part_of(device, _host_share(config, None)), gpus, say)


def _host_share(config: RunConfig, cluster: "Cluster | None") -> float:
    """Return the share of a host's memory for a trial on the CPU: 1 / the number of trials that run there at a time.

    Args:
        cluster: cluster of the search; None before Ray starts on this machine alone.
    """
    if config.memory.device_gib is not None:
        # A card simulated on the CPU is shared like a real one.
        return 1.0
    at_once = config.search.max_concurrent
    if cluster is not None and cluster.joined:
        at_once = min(at_once, cluster.most_on_a_node(config.resources.cpu))
    return 1 / max(1, at_once)


def _part_of(device: "TrialDevice", host_share: float) -> "TrialDevice":
    return replace(device, total_gib=device.total_gib * host_share) if device.kind == "cpu" else device


def _screen_on(cluster: "Cluster", config: RunConfig, gpus: "Gpus", say: Callable[[str], None]) -> _Screen:
    from trainables.devices.facts import trial_device

    device_gib, host_share = config.memory.device_gib, _host_share(config, cluster)
    if gpus == 0:
        return _screen(config, _part_of(trial_device(device_gib, use_cuda=False), host_share), gpus, say)
    return _screen(config, _part_of(cluster.where_gpus_are(lambda: trial_device(device_gib)), host_share), gpus, say)


def _files_for(config: RunConfig, cluster: "Cluster", say: Callable[[str], None]) -> "TrialFiles":
    """Return the files that trials read, on any node."""
    from trainables.inputs import prepare_inputs
    from trainables.models.names import resolve_model
    from tune_app.distributed.nodes import OneMachine, SentFiles

    if not cluster.joined:
        return OneMachine()
    models, settings = model_names(config), config.trial_settings()
    # Nodes fetch the hub's tokenizers themselves, with the models.
    prepared = [name for name in models if resolve_model(name).kind != "hub"]
    say(f"preparing data and models for the cluster's nodes ({len(models)} models)")
    return SentFiles(settings, models, prepare_inputs(settings, prepared, Path(config.run_dir) / CACHE))


def _ray_starts_here(address: str | None) -> bool:
    """Return whether the search starts Ray: there is no cluster to join, and no Ray in this process."""
    return cluster_address(address) is None and not _ray_runs_here()


def _joins(address: str | None) -> bool:
    """Return whether the search joins a cluster: a named one, or that of the job it runs in."""
    return cluster_address(address) is not None and not _ray_runs_here()


def _ray_runs_here() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _check_cluster(config: RunConfig, address: str | None) -> None:
    """Refuse a cluster on which trials could not run or not write their checkpoints.

    Raises:
        UserError: the cluster is refused; the message names what is missing, and where.
    """
    # Ray takes seconds to import.
    from tune_app.distributed.cluster import joined
    from tune_app.distributed.nodes import require_reach

    resources, checkpoint = config.resources, config.checkpoint
    with joined(address, cpus=0) as cluster:
        cluster.check_fits(cpu=resources.cpu, gpu=cluster.gpus_per_trial(resources.gpu))
        if checkpoint.keep != "none":
            storage = checkpoint_storage(config)
            require_reach(storage, f"{storage.setting}: {checkpoint.dir or config.study.dir}", cpu=resources.cpu)


def _changed_course(store: StudyStore, config: RunConfig) -> list[str]:
    """Return the settings of the search's course that changed since it last ran, with their values."""
    if store.config is None:
        return []
    before = flat(store.config)
    sections = ("search", "scheduler", "resources", "limits", "memory", "trial")
    # A changed scheduler.rung makes another study, and the study records the value that auto stands for.
    others = ("search.trials", "scheduler.rung")
    return [
        f"{name}={value}"
        for name, value in flat(config.as_dict()).items()
        if name.partition(".")[0] in sections and name not in others and before.get(name) != value
    ]


def _has_work(store: StudyStore) -> bool:
    trials = store.trials()
    return sum(map(was_launched, trials)) < store.target or any(trial.state == TrialState.RUNNING for trial in trials)


def open_tracking(config: RunConfig, store: StudyStore) -> Tracking:
    """Open a study's mirror in MLflow and start updating it; return a null object if tracking is disabled."""
    if not config.tracking.enabled:
        return NoTracking()
    artifacts = Path(config.run_dir) / ARTIFACTS
    return MlflowTracking(store, tracking_uri(config), flat(shown_config(config)), artifacts)


def _progress(config: RunConfig, store: StudyStore, voice: Voice) -> Progress:
    if voice.is_quiet:
        return Quiet()
    shown = LiveTable if voice.console.is_terminal else PlainLines
    return shown(voice, store, Course.of(config))


def _tell_interrupted(voice: Voice) -> Callable[[], None]:
    def tell() -> None:
        voice.say("interrupted: open trials keep their last checkpoints; a second signal ends the search at once")
        voice.doing("ending the running trials")

    return tell


def _opening(config: RunConfig, store: StudyStore, dashboard_url: str | None) -> str:
    space = config.active_space()
    trials = store.trials()
    held = len(_own(trials))
    carried = f", {len(trials) - held} carried over" if len(trials) > held else ""
    begins = f"resumes with {held} trial{'s' if held != 1 else ''}" if held else "new"
    lines = [
        f"study {store.name}: {begins}{carried}, {store.target} launched"
        f" trials in all, {config.search.max_concurrent} at a time; {space.describe()}",
        *(f"  {line}" for line in space.shape()),
        f"run directory {config.run_dir}",
        *([f"stored in {without_password(config.location)}"] if is_store(config.study.dir) else []),
    ]
    if dashboard_url:
        lines.append(f"Ray's dashboard http://{dashboard_url} (its token: ray get-auth-token)")
    return "\n".join(lines)


def _architectures(config: RunConfig) -> "dict[str, Architecture | None]":
    """Return each model's architecture; None for a model whose configuration this machine lacks."""
    from trainables.models.sizes import architecture
    from trainables.settings import revision_of

    model = config.trial_settings().model
    return {name: architecture(name, revision_of(model, name), fetch=False) for name in model_names(config)}


def _recommended_left(config: RunConfig, trials: Sequence[FrozenTrial]) -> int:
    """Return the number of recommended configurations to launch before any others."""
    own = [trial for trial in _own(trials) if was_launched(trial)]
    # Trials carried over from another version count, too.
    launched = sum(map(is_recommended, trials))
    # The start is over once another trial was launched. An exhaustive search reaches every configuration anyway.
    is_over = not all(map(is_recommended, own)) or config.search.sampler == "exhaustive"
    return 0 if is_over else max(0, config.search.recommended - launched)


def _own(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that the study launched itself. The others' checkpoints belong to another study."""
    return [trial for trial in trials if carried_from(trial) is None]


def _open_trials(store: StudyStore, checkpoints: "StudyCheckpoints") -> list[Any]:
    from tune_app.distributed.searcher import OpenTrial
    from tune_app.study.checkpoints import recorded_checkpoints

    return [
        OpenTrial(
            trial.number,
            dict(trial.params),
            tuple(dict.fromkeys(filter(None, map(checkpoints.own, recorded_checkpoints(trial))))),
            is_recommended(trial),
        )
        for trial in store.trials()
        if trial.state == TrialState.RUNNING
    ]


def _each(*functions: Any) -> Any:
    def call(argument: Any) -> None:
        for function in functions:
            function(argument)

    return call


def _check_nothing_open(store: StudyStore) -> None:
    left = [trial.number for trial in store.trials() if trial.state == TrialState.RUNNING]
    if left:
        raise RuntimeError(f"trials {left} were left open at the end of the search; this is a bug in headroom")
