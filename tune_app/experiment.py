"""Assembles a search and runs it: the one module that knows all the others.

Read from top to bottom it is the whole road: configuration → data → study → searcher, scheduler, recorder → Ray → what
came of it.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState
from rich.console import Console

from search_spaces.rules import Rule
from trainables.machine import MachineFiles
from trainables.optimizers import OptimizerMissingError, check_installed
from trainables.seeds import sub_seed
from tune_app.combinations import check_combinations, combination_rules
from tune_app.config import RunConfig, dump_yaml, load_config
from tune_app.errors import UserError, without_password
from tune_app.knobs import check_knobs
from tune_app.outcomes import Outcome
from tune_app.progress import LiveTable, PlainLines, Progress, Quiet
from tune_app.reporting import StudyStatus, outcome_of, study_status
from tune_app.study import StudyRecord, StudyStore, open_study, search_lock
from tune_app.tracking import MlflowTracking, NoTracking, Tracking, flat

if TYPE_CHECKING:
    from trainables.memory.facts import TrialDevice
    from tune_app.packing import Gpus, Packing
    from tune_app.ray_session import Cluster
    from tune_app.trainable import RunTrial

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
CACHE = "cache"
ARTIFACTS = "artifacts"
_SECRETS_FILE = "secrets.json"


@dataclass(frozen=True)
class SearchEnd:
    """How a search ended. ``why`` says it in a sentence; ``warnings`` are for the person."""

    status: StudyStatus
    run_dir: Path
    why: str
    interrupted: bool
    warnings: tuple[str, ...] = ()


def run_search(
    config: RunConfig,
    *,
    console: Console,
    quiet: bool = False,
    address: str | None = None,
    run_trial: "RunTrial | None" = None,
) -> SearchEnd:
    """Run a study until it holds ``search.trials`` launched trials; resumes it where it exists.

    Args:
        address: of a Ray cluster to join; None starts Ray on this machine, or joins the job's cluster.
        run_trial: what is run per trial; None trains an encoder.

    Raises:
        UserError: the configuration, the data or the storage does not allow the search.
    """
    if config.space is None:
        raise UserError(
            "space: is missing; name at least one parameter to search, e.g. optim.lr, or use headroom train"
        )
    _check_place(config)
    run_dir = Path(config.run_dir)
    record = study_record(config)
    screen = None
    with _made(run_dir) as is_new:
        if is_new and run_trial is None:
            check_knobs(config, model_names(config), _said_plainly(console, quiet))
        if is_new and _ray_starts_here(address):
            screen = _screen_here(config, _said_plainly(console, quiet))
    with search_lock(run_dir), ExitStack() as stack:
        store = open_study(run_dir, config.study.name, config.study.storage, record)
        store.set_target(config.search.trials)
        write_config(config, run_dir)
        progress = stack.enter_context(_progress(config, store, console, quiet))
        if _has_work(store):
            end, tracking = _search(config, store, run_dir, progress, address, screen, run_trial)
        else:
            tracking = _tracking(config, store)
            end = _LoopEnd(f"the study holds its {store.target} launched trials already", interrupted=False)
        if not end.interrupted:
            _check_nothing_open(store)
        warnings = tuple(tracking.flush())
    return SearchEnd(study_status(store, is_running=False), run_dir, end.why, end.interrupted, warnings)


@dataclass(frozen=True)
class _LoopEnd:
    why: str
    interrupted: bool


def _search(
    config: RunConfig,
    store: StudyStore,
    run_dir: Path,
    progress: Progress,
    address: str | None,
    screen: "_Screen | None",
    run_trial: "RunTrial | None",
) -> tuple[_LoopEnd, Tracking]:
    # Ray takes seconds to import; everything that can be refused was refused before.
    from trainables.memory.facts import torch_facts
    from tune_app import ray_session
    from tune_app.checkpoints import CheckpointKeeper
    from tune_app.recorder import ATTEMPTS, StudyRecorder
    from tune_app.sampling import build_proposer
    from tune_app.scheduler import PastTrial, build_scheduler
    from tune_app.searcher import HeadroomSearch
    from tune_app.trainable import make_trainable, train_encoder

    assert config.space is not None
    search, scheduling, resources = config.search, config.scheduler, config.resources
    trials = store.trials()
    checkpoints = CheckpointKeeper(config.checkpoint.keep, trials)
    scheduler = build_scheduler(
        scheduling.name,
        steps=config.unit.count,
        warmup=scheduling.warmup,
        reduction_factor=scheduling.reduction_factor,
        startup_trials=scheduling.startup_trials,
        past=[
            PastTrial(trial.number, trial.intermediate_values, is_open=trial.state == TrialState.RUNNING)
            for trial in trials
            if outcome_of(trial) is not Outcome.INFEASIBLE
        ],
    )
    trainable = make_trainable(
        config.trial_settings(), run_dir / CACHE, threads=resources.cpu, run_trial=run_trial or train_encoder
    )
    # A card that is made of the CPU is packed as one that is there.
    claimed = 1 if config.memory.device_gib is not None and not torch_facts().devices else None
    cpus = search.max_concurrent * resources.cpu
    with ray_session.joined(address, cpus, claimed) as cluster, _interruptible() as asked:
        gpus = cluster.gpus_per_trial(resources.gpu)
        cluster.check_fits(cpu=resources.cpu, gpu=gpus)
        progress.message(_opening(config, store, cluster.dashboard_url))
        screen = screen or _screen_on(cluster, config, gpus, progress.message)
        # Not before: of a search that is refused nothing is tracked.
        tracking = _tracking(config, store)
        searcher = HeadroomSearch(
            store,
            build_proposer(
                search.sampler,
                config.active_space(),
                store.study,
                store.distributions,
                # Another seed at every start, or a resumed search would draw its first points again.
                sub_seed(search.seed, f"sampler:{len(trials)}"),
            ),
            rules=screen.rules,
            fixed=config.fixed_params(),
            gpus=screen.packing.gpus,
            adopt=_open_trials(store),
            launched=sum(outcome_of(trial) is not Outcome.INFEASIBLE for trial in trials),
            total=store.target,
            max_concurrent=search.max_concurrent,
            # HyperBand compares the trials of a bracket, so it must see one coming while another runs.
            ask_ahead=1 if scheduling.name == "hyperband" else 0,
            max_rejections=search.max_rejections,
        )
        recorder = StudyRecorder(
            store,
            searcher,
            checkpoints,
            unit=config.unit,
            scheduler=scheduling.name,
            on_report=progress.reported,
            on_close=_each(tracking.trial_closed, progress.closed),
            on_step=progress.step,
        )
        ray_session.fit(
            trainable,
            searcher=searcher,
            scheduler=scheduler,
            callback=recorder,
            cpus=resources.cpu,
            storage=run_dir,
            name=CHECKPOINTS,
            retries=ATTEMPTS,
        )
    if asked.is_set():
        return _LoopEnd("the same command goes on from here", interrupted=True), tracking
    return _LoopEnd(searcher.end or "every trial ended", interrupted=False), tracking


@dataclass(frozen=True)
class _Screen:
    """What turns configurations away before launch, and what share of a GPU the others get."""

    packing: "Packing"
    rules: list[Rule]


def _screen(config: RunConfig, device: "TrialDevice", gpus: "Gpus", say: Callable[[str], None]) -> _Screen:
    """Predict what the space needs on the device, and say what share of it each rule turns away.

    Raises:
        UserError: the rules leave nothing.
    """
    from tune_app.filtering import build_rules, check_something_runs, turned_away
    from tune_app.packing import Packing

    assert config.space is not None
    passes = config.resources.passes
    packing = Packing(config.trial_settings(), device, gpus=gpus, passes=passes, files=MachineFiles(), say=say)
    rules = [
        *combination_rules(config, model_names(config)),
        *build_rules(config.limits, config.memory.max_accumulation, packing),
    ]
    if rules:
        found = turned_away(rules, config.space, config.fixed_params(), sub_seed(config.search.seed, "rules"))
        check_something_runs(found, packing)
        say(str(found))
    return _Screen(packing, rules)


def _screen_here(config: RunConfig, say: Callable[[str], None]) -> _Screen:
    """The same before Ray is there, for a search that will start it on this machine."""
    from trainables.memory.facts import torch_facts, trial_device

    memory, gpus = config.memory, config.resources.gpu
    if gpus == "auto" and not torch_facts().devices and memory.device_gib is None:
        gpus = 0
    return _screen(config, trial_device(memory.device_gib, use_cuda=gpus != 0), gpus, say)


def _screen_on(cluster: "Cluster", config: RunConfig, gpus: "Gpus", say: Callable[[str], None]) -> _Screen:
    from trainables.memory.facts import trial_device

    device_gib = config.memory.device_gib
    if gpus == 0:
        return _screen(config, trial_device(device_gib, use_cuda=False), gpus, say)
    return _screen(config, cluster.where_gpus_are(lambda: trial_device(device_gib)), gpus, say)


def _ray_starts_here(address: str | None) -> bool:
    """Whether there is no cluster to join, nor Ray in this process already."""
    ray = sys.modules.get("ray")
    return address is None and "RAY_ADDRESS" not in os.environ and (ray is None or not ray.is_initialized())


def _has_work(store: StudyStore) -> bool:
    trials = store.trials()
    launched = [trial for trial in trials if outcome_of(trial) is not Outcome.INFEASIBLE]
    return len(launched) < store.target or any(trial.state == TrialState.RUNNING for trial in trials)


def study_record(config: RunConfig) -> StudyRecord:
    """What the study is about; reads the data, so that everything wrong with it is said before anything is started.

    Raises:
        UserError: the data cannot be used, a model is unknown, or an optimizer not installed.
    """
    from trainables.data.rows import DataError, require_evidence
    from trainables.data.split import read_development
    from trainables.models.names import UnknownModelError, resolve_model

    assert config.space is not None
    check_optimizers(config)
    check_combinations(config, model_names(config))
    settings = config.trial_settings()
    try:
        development = read_development(settings.data, settings.task.classes, settings.seeds.split)
        if settings.task.finds_spans:
            require_evidence(development.rows, settings.data)
        for name in model_names(config):
            resolve_model(name)
    except DataError as error:
        raise UserError(f"data.path: {error}") from None
    except UnknownModelError as error:
        raise UserError(f"model.name: {error}") from None
    first, *further = config.objectives
    return StudyRecord(
        space=config.space,
        task=config.task.name,
        metric=first.name,
        mode=first.mode,
        data_fingerprint=development.fingerprint,
        fixed=config.fixed_for_study(),
        further=tuple(further),
    )


def model_names(config: RunConfig) -> list[str]:
    """Every model that a trial of the search may use."""
    names = _names(config, "model.name", config.model.name)
    if config.task.name == "joint":
        names += _names(config, "model.criteria_name", config.model.criteria_name or config.model.name)
    return list(dict.fromkeys(names))


def check_optimizers(config: RunConfig) -> None:
    """Refuse an optimizer that a trial may use and that is not here; nothing is imported for it.

    Raises:
        UserError: naming the extra that brings it.
    """
    for name in _names(config, "optim.name", config.optim.name):
        try:
            check_installed(name)
        except OptimizerMissingError as error:
            raise UserError(str(error)) from None


def _names(config: RunConfig, setting: str, fixed: str) -> list[str]:
    entry = config.space.entries.get(setting) if config.space else None
    return [fixed] if entry is None else [str(name) for name in entry.examples]


def write_config(config: RunConfig, run_dir: Path) -> None:
    """Write the resolved configuration without passwords; URLs that hold one go to a file of their own."""
    dump_yaml(shown_config(config), run_dir / CONFIG_FILE, "As resolved by headroom; headroom search runs it as it is.")
    secrets = {name: url for name, url in _urls(config).items() if url != without_password(url)}
    (run_dir / _SECRETS_FILE).unlink(missing_ok=True)
    if secrets:
        descriptor = os.open(run_dir / _SECRETS_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(secrets, stream)


def stored_config(run_dir: Path) -> RunConfig:
    """The configuration that a run directory holds, its passwords in place again.

    Raises:
        UserError: it holds none, or one that is not right.
    """
    secrets = run_dir / _SECRETS_FILE
    urls = json.loads(secrets.read_text(encoding="utf-8")) if secrets.exists() else {}
    return load_config(run_dir / CONFIG_FILE, [f"{name}={json.dumps(url)}" for name, url in urls.items()])


def _urls(config: RunConfig) -> dict[str, str]:
    urls = {"study.storage": config.study.storage, "study.dir": config.study.dir, "tracking.uri": config.tracking.uri}
    return {name: url for name, url in urls.items() if url}


def shown_config(config: RunConfig) -> dict[str, Any]:
    """The resolved configuration fit to be shown: passwords in URLs are replaced by ``***``."""
    values = config.as_dict()
    for name, url in _urls(config).items():
        section, key = name.split(".")
        values[section][key] = without_password(url)
    return values


def tracking_uri(config: RunConfig) -> str:
    """Where MLflow keeps its runs: the server given, else a SQLite file beside the run directory."""
    return config.tracking.uri or f"sqlite:///{config.study.dir}/mlflow.db"


def _check_place(config: RunConfig) -> None:
    if "://" in config.study.dir:
        raise UserError(f"study.dir: {config.study.dir}: storage URIs are not read yet; give an absolute folder")
    # Ray's own mark on the entry point of a submitted job, which runs in a throw-away copy of the working directory.
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and _under(config.study.dir, os.getcwd()):
        raise UserError(
            f"study.dir: {config.study.dir} lies in the job's throw-away working directory; give an absolute path that"
            " outlives the job, e.g. -s study.dir=/data/runs"
        )


def _under(path: str, folder: str) -> bool:
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(folder)]) == os.path.realpath(folder)


@contextmanager
def _made(run_dir: Path) -> Iterator[bool]:
    """Make the run directory, or see that it can be written; if the block raises, what was made is taken away again.

    Yields whether it is new.
    """
    missing = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"study.dir: {run_dir} cannot be written ({error.strerror}); set another study.dir") from None
    try:
        yield bool(missing)
    except BaseException:
        for folder in missing:
            folder.rmdir()
        raise


def _tracking(config: RunConfig, store: StudyStore) -> Tracking:
    if not config.tracking.enabled:
        return NoTracking()
    artifacts = Path(config.run_dir) / ARTIFACTS
    return MlflowTracking(store, tracking_uri(config), flat(shown_config(config)), artifacts)


def _said_plainly(console: Console, quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    return say


def _progress(config: RunConfig, store: StudyStore, console: Console, quiet: bool) -> Progress:
    if quiet:
        return Quiet()
    shown = LiveTable if console.is_terminal else PlainLines
    return shown(console, store, config.search.max_concurrent)


def _opening(config: RunConfig, store: StudyStore, dashboard_url: str | None) -> str:
    space = config.active_space()
    held = len(store.trials())
    lines = [
        f"study {store.name}: {'resumes with ' + str(held) + ' trials' if held else 'new'}, {store.target} launched"
        f" trials in all, {config.search.max_concurrent} at a time; {space.describe()}",
        *(f"  {line}" for line in space.shape()),
        f"run directory {config.run_dir}",
    ]
    if dashboard_url:
        lines.append(f"Ray's dashboard http://{dashboard_url} (its token: ray get-auth-token)")
    return "\n".join(lines)


def _open_trials(store: StudyStore) -> list[Any]:
    from tune_app.checkpoints import LATEST, exists
    from tune_app.searcher import OpenTrial

    return [
        OpenTrial(
            trial.number,
            dict(trial.params),
            trial.user_attrs[LATEST] if exists(trial.user_attrs, LATEST) else None,
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
        raise RuntimeError(f"trials {left} were left open at the end of the search; this is a defect of headroom")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a graceful end of Ray's loop, and remember that it came.

    Ray ends its loop in good order on SIGUSR1 and on its own SIGINT handler, but returns normally, and on SIGTERM it
    dies in a native dump. The second signal ends the process at once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def end(number: int, frame: object) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()
        if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
            # Ray's loop is not running yet, or not any more.
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGUSR1)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
