"""Headroom's overhead on trials that cost nothing, and the cost of one suggestion.

Part 1, ``trials``: trials that report once and return. One side is a whole search of Headroom (``run_search``:
searcher, ASHA, journal file, MLflow on SQLite). The other is raw Ray Tune with the stock ``OptunaSearch`` (study in
memory, no scheduler, no tracking). Both reuse workers, search the same space, and run in turn in separate processes.
The time covers the call that starts Ray up to its return, with Ray's start and end and the last write to MLflow.

Part 2, ``suggest``: one suggestion of ``HeadroomSearch`` with rules, on the journal file, after 1,000 recorded trials
of 14 parameters. Beside it runs plain Optuna's ``study.ask`` with the same distributions in memory, on Optuna's own
journal file and on SQLite.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from common import print_json, print_ratio, print_table, versions, versions_line
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial
from stock import distributions

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, Space, parse_space
from trainables.reports import Report, TrialReport
from trainables.settings import TrialSettings

TRIALS_TARGET, SUGGEST_TARGET_MS = 1.1, 20.0
PACKAGES = ("ray", "optuna", "mlflow")
OURS = "headroom, rules, journal"
Timing = tuple[float, float]
"""Seconds of a call: wall time, and this thread's CPU time, which other load on the machine changes less."""

# Six parameters, four of them float ranges, so that the space cannot be exhausted.
TRIALS_SPACE = {
    "optim.lr": {"low": 1e-6, "high": 1e-3, "log": True},
    "optim.weight_decay": {"low": 0.0, "high": 0.3},
    "head.dropout": {"low": 0.0, "high": 0.5},
    "schedule.warmup_ratio": {"low": 0.0, "high": 0.3},
    "train.batch_size": {"choices": [8, 16, 32, 64]},
    "tok.max_length": {"choices": [128, 256, 384, 512]},
}
# Fourteen parameters, as in users' searches: seven with choices, seven ranges.
SUGGEST_SPACE = {
    "model.name": {"choices": ["bert-base-uncased", "roberta-base", "bert-large-uncased", "roberta-large"]},
    "tok.max_length": {"choices": [128, 256, 384, 512]},
    "train.batch_size": {"choices": [8, 16, 32, 64]},
    "train.grad_accum": {"choices": [1, 2, 4]},
    "head.pooling": {"choices": ["cls", "mean", "max"]},
    "schedule.name": {"choices": ["linear", "cosine"]},
    "optim.beta2": {"choices": [0.98, 0.99, 0.999]},
    "optim.lr": {"low": 1e-6, "high": 1e-3, "log": True},
    "optim.eps": {"low": 1e-9, "high": 1e-6, "log": True},
    "optim.weight_decay": {"low": 0.0, "high": 0.3},
    "optim.beta1": {"low": 0.8, "high": 0.95},
    "head.dropout": {"low": 0.0, "high": 0.5},
    "schedule.warmup_ratio": {"low": 0.0, "high": 0.3},
    "train.clip_norm": {"low": 0.1, "high": 5.0},
}


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments = _parser().parse_args()
    if arguments.quick:
        arguments.trials, arguments.told, arguments.suggestions = 40, 60, 10
    if arguments.side:
        print_json(SIDES[arguments.side](arguments.trials, arguments.concurrent))
        return
    print(versions_line(*PACKAGES))
    found: dict[str, Any] = {"bench": "overhead", "versions": versions(*PACKAGES)}
    if arguments.part in ("trials", "all"):
        found["trials"] = compare_trials(arguments.trials, arguments.concurrent, arguments.rounds)
    if arguments.part in ("suggest", "all"):
        found["suggest"] = compare_suggest(arguments.told, arguments.suggestions)
    print_json(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["trials", "suggest", "all"], default="all")
    parser.add_argument("--trials", type=int, default=2000, help="that do nothing, per side and round")
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="of both sides; every other one in turned order")
    parser.add_argument("--told", type=int, default=1000, help="trials told before the first suggestion")
    parser.add_argument("--suggestions", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="40 trials; 10 suggestions after 60 told trials")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    return parser


def compare_trials(trials: int, concurrent: int, rounds: int) -> dict[str, Any]:
    """Run both sides in turn, each in another process."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    driver_cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        for side in sorted(SIDES, reverse=bool(turn % 2)):
            done = _run_side(side, trials, concurrent)
            if done["complete"] != trials:
                raise RuntimeError(f"{side}: {done['complete']} of {trials} trials are complete")
            seconds[side].append(done["seconds"] / trials)
            driver_cpu[side].append(done["cpu_seconds"] / trials)
    per_trial = {side: statistics.median(found) for side, found in seconds.items()}
    print(f"\n{trials} trials that do nothing, {concurrent} at a time, median of {rounds} round(s)")
    print_table(
        ["", "ms per trial", "CPU ms of the driver"],
        [
            [side, f"{1000 * per_trial[side]:.1f}", f"{1000 * statistics.median(driver_cpu[side]):.1f}"]
            for side in SIDES
        ],
    )
    ratio = per_trial["headroom"] / per_trial["ray"]
    print_ratio("headroom / ray", ratio, TRIALS_TARGET)
    return {
        "trials": trials,
        "seconds_per_trial": per_trial,
        "rounds": seconds,
        "driver_cpu": driver_cpu,
        "ratio": ratio,
    }


def _run_side(side: str, trials: int, concurrent: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--trials", str(trials), "--concurrent", str(concurrent)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    done: dict[str, Any] = json.loads(output.splitlines()[-1])
    return done


def headroom_side(trials: int, concurrent: int) -> dict[str, Any]:
    """Run a whole ``headroom search`` without the training."""
    from tune_app.config import parse_config
    from tune_app.console import Console
    from tune_app.distributed import cluster  # noqa: F401  # Ray is imported on both sides before the clock starts.
    from tune_app.experiment import run_search

    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            {
                "study": {"name": "nothing", "dir": folder},
                "data": {"path": "demo"},
                "train": {"epochs": 2},
                "scheduler": {"rung": "epoch"},
                "search": {"trials": trials, "max_concurrent": concurrent},
                # Part 2 times the rules.
                "limits": None,
                "space": TRIALS_SPACE,
            }
        )
        started, cpu_started = time.perf_counter(), time.process_time()
        end = run_search(config, console=Console(), quiet=True, run_trial=_do_nothing, checks=())
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "complete": end.status.trials["complete"]}


def _do_nothing(settings: TrialSettings, report: Report, workspace: object) -> None:
    report(TrialReport(step=1, value=_objective(settings.optim.lr), ended="complete"))


def _objective(lr: float) -> float:
    """Return the value of a learning rate: best at 3e-5, so that the sampler has something to follow."""
    return -abs(math.log10(lr / 3e-5))


def ray_side(trials: int, concurrent: int) -> dict[str, Any]:
    """Run Ray Tune with its stock searcher.

    It starts and is silenced as in Headroom; its own records keep their defaults.
    """
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from tune_app.distributed import cluster

    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "auto"

    def do_nothing(config: Mapping[str, Any]) -> None:
        tune.report({"value": _objective(config["optim.lr"])})

    with tempfile.TemporaryDirectory() as folder:
        started, cpu_started = time.perf_counter(), time.process_time()
        with cluster.joined(None, cluster.Offer(cpus=concurrent)):
            tuner = tune.Tuner(
                tune.with_resources(do_nothing, {"cpu": 1}),
                tune_config=tune.TuneConfig(
                    search_alg=OptunaSearch(distributions(parse_space(TRIALS_SPACE)), "value", "max", seed=0),
                    num_samples=trials,
                    max_concurrent_trials=concurrent,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0, log_to_file=False),
            )
            results = tuner.fit()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "complete": len(results) - results.num_errors}


SIDES: dict[str, Callable[[int, int], dict[str, Any]]] = {"headroom": headroom_side, "ray": ray_side}


def compare_suggest(told: int, suggestions: int) -> dict[str, Any]:
    """Time single suggestions, all sides in turn; each is recorded at once, so that the next one learns from it."""
    space = parse_space(SUGGEST_SPACE)
    with tempfile.TemporaryDirectory() as folder:
        sides = {OURS: _headroom_suggest(space, Path(folder), told, suggestions)}
        for name, storage in _optuna_storages(Path(folder)).items():
            sides[f"optuna, {name}"] = _optuna_ask(space, storage, told, suggestions)
        times = list(zip(*sides.values(), strict=True))
    wall = {side: 1000 * statistics.median(turn[i][0] for turn in times) for i, side in enumerate(sides)}
    cpu = {side: 1000 * statistics.median(turn[i][1] for turn in times) for i, side in enumerate(sides)}
    print(f"\nsuggest, {len(space)} parameters, {told} told trials, median of {suggestions}")
    print_table(
        ["", "ms", "CPU ms", "headroom ="],
        [[side, f"{wall[side]:.1f}", f"{cpu[side]:.1f}", f"{wall[OURS] / wall[side]:.2f} ×"] for side in sides],
    )
    # The target is processor time, since other load on a shared machine changes the wall time.
    ratio = cpu[OURS] / SUGGEST_TARGET_MS
    print_ratio(f"headroom / {SUGGEST_TARGET_MS:.0f} ms of processor time", ratio, 1.0)
    return {"told": told, "suggestions": suggestions, "median_ms": wall, "median_cpu_ms": cpu, "ratio": ratio}


def _timed(function: Callable[[], Any]) -> tuple[Any, Timing]:
    started, cpu_started = time.perf_counter(), time.thread_time()
    answer = function()
    return answer, (time.perf_counter() - started, time.thread_time() - cpu_started)


def _headroom_suggest(space: Space, folder: Path, told: int, suggestions: int) -> Iterator[Timing]:
    from search_spaces.rules import NAMED_LIMITS, SizeClassRule
    from tune_app.distributed.messages import Launch
    from tune_app.distributed.searcher import HeadroomSearch
    from tune_app.outcomes import Outcome
    from tune_app.sampling.proposers import build_proposer
    from tune_app.study.record import StudyRecord
    from tune_app.study.store import open_study

    store = open_study(folder, "suggest", None, StudyRecord(space, "criteria", "macro_f1", "max", "none"))
    for place, (params, value) in enumerate(_told_trials(space, told)):
        number = store.open_trial(params, {})
        store.report(number, 1, value)
        # Early stopping ends two trials of three.
        if place % 3:
            store.close_trial(number, Outcome.STOPPED)
        else:
            store.close_trial(number, Outcome.COMPLETE, value=value)
    searcher = HeadroomSearch(
        store,
        build_proposer("tpe", ActiveSpace(space), store.study, store.distributions, seed=0),
        rules=[SizeClassRule(NAMED_LIMITS["users_24gb"], lambda model: None)],
        fixed={},
        gpus=lambda params: 0.0,
        adopt=[],
        launched=told,
        total=told + suggestions,
        max_concurrent=1,
        ask_ahead=0,
        max_rejections=1000,
    )
    for index in range(suggestions):
        config, timing = _timed(partial(searcher.suggest, str(index)))
        assert isinstance(config, dict), "the total leaves room for every suggestion"
        launch = Launch.from_dict(config)
        store.close_trial(launch.number, Outcome.COMPLETE, value=_objective(float(launch.params["optim.lr"])))
        searcher.on_trial_complete(str(index))
        yield timing


def _optuna_storages(folder: Path) -> dict[str, BaseStorage]:
    return {
        "memory": InMemoryStorage(),
        "journal": JournalStorage(JournalFileBackend(str(folder / "optuna.journal"))),
        "SQLite": RDBStorage(f"sqlite:///{folder}/optuna.db"),
    }


def _optuna_ask(space: Space, storage: BaseStorage, told: int, suggestions: int) -> Iterator[Timing]:
    dists = distributions(space)
    study = optuna.create_study(storage=storage, direction="maximize", sampler=TPESampler(seed=0))
    study.add_trials(
        [create_trial(params=params, distributions=dists, value=value) for params, value in _told_trials(space, told)]
    )
    for _ in range(suggestions):
        trial, timing = _timed(partial(study.ask, dists))
        study.tell(trial, _objective(trial.params["optim.lr"]))
        yield timing


def _told_trials(space: Space, told: int) -> Iterator[tuple[Params, float]]:
    rng = random.Random(0)
    for _ in range(told):
        params = space.sample(rng)
        yield params, _objective(float(params["optim.lr"]))


if __name__ == "__main__":
    main()
