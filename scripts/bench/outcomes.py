"""Launched trials that run out of memory when half of the space does not fit and no rule is active.

On the toy problem of ``toy.py``, with the same space, budget, objectives, seeds and number of launched trials on both
sides, one trial at a time:

- ``ray``: stock ``OptunaSearch``; the trial raises, so Ray says "error" and Optuna is told FAIL, which TPE ignores.
- ``headroom``: ``HeadroomSearch`` and ``StudyRecorder``; the trial reports by how much its need exceeds the budget, so
  Optuna is told PRUNED with the constraint ``memory``. No configuration is launched twice.

Both are driven by the calls that Ray's loop makes, in Ray's order, without its workers, because each trial that raises
costs Ray a fresh worker of several seconds. ``--ray`` runs one seed on real Ray as well and compares the counts.
"""

import argparse
import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_app import ray_session  # isort: skip  # First of all: it sets the environment that Ray reads when imported.
import optuna
from common import print_json, print_ratio, print_table, versions, versions_line
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from stock import distributions
from toy import OBJECTIVES, ToyProblem, need_gib

from search_spaces.space import Params, Scalar
from trainables.reports import Fact, Report, TrialReport
from trainables.seeds import sub_seed
from trainables.settings import TrialSettings
from tune_app.checkpoints import CheckpointKeeper
from tune_app.config import parse_config
from tune_app.experiment import run_search
from tune_app.recorder import StudyRecorder
from tune_app.reporting import study_status
from tune_app.sampling import build_proposer
from tune_app.scheduler import ENDED, METRIC, TIME
from tune_app.searcher import PARAMS, HeadroomSearch
from tune_app.study import StudyRecord, StudyStore, open_study
from tune_app.trainable import FACTS, REASON

TARGET = 0.6
PACKAGES = ("ray", "optuna")
Count = Callable[[ToyProblem, int, int], int]


class OutOfMemory(RuntimeError):
    """Stands for ``torch.OutOfMemoryError``; Ray's searcher interface hears nothing of its type."""


def main() -> None:
    arguments = _parser().parse_args()
    trials, seeds = (20, 2) if arguments.quick else (arguments.trials, arguments.seeds)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    problems = [ToyProblem(objective) for objective in OBJECTIVES]
    share = problems[0].share_that_fits
    print(versions_line(*PACKAGES))
    print(f"{problems[0].space.describe()}, {share:.1%} fit into {problems[0].budget_gib:.3f} GiB")
    sides: dict[str, Count] = {"ray": stock_ooms, "headroom": headroom_ooms}
    ooms = {p.objective: _counts(p, sides, range(seeds), trials) for p in problems}
    ratios = _print_counts(ooms, trials)
    found = {"bench": "outcomes", "versions": versions(*PACKAGES), "trials": trials, "seeds": seeds}
    found |= {"share_that_fits": share, "ooms": ooms, "ratios": ratios}
    if arguments.ray:
        found["on_real_ray"] = _check_on_ray(problems, sides, trials)
    total = sum(sum(counts["headroom"]) for counts in ooms.values()) / sum(sum(c["ray"]) for c in ooms.values())
    print_ratio("headroom / ray, out of memory, all", total, TARGET)
    print_json({**found, "ratio": total})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="launched, per objective, seed and side")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ray", action="store_true", help="run seed 0 on real Ray too (minutes)")
    parser.add_argument("--quick", action="store_true", help="20 trials, 2 seeds")
    return parser


def _counts(problem: ToyProblem, sides: Mapping[str, Count], seeds: Sequence[int], trials: int) -> dict[str, list[int]]:
    return {side: [count(problem, seed, trials) for seed in seeds] for side, count in sides.items()}


def _print_counts(ooms: Mapping[str, Mapping[str, Sequence[int]]], trials: int) -> dict[str, float]:
    ratios = {objective: sum(counts["headroom"]) / sum(counts["ray"]) for objective, counts in ooms.items()}
    print(f"\nout of memory, of {trials} launched, by seed")
    print_table(
        [
            "objective",
            "told",
            *(str(seed) for seed in range(len(ooms[OBJECTIVES[0]]["ray"]))),
            "mean",
            "headroom / ray",
        ],
        [
            [objective, side, *counts, f"{sum(counts) / len(counts):.1f}", f"{ratios[objective]:.2f} ×"]
            for objective, by_side in ooms.items()
            for side, counts in by_side.items()
        ],
    )
    return ratios


def stock_ooms(problem: ToyProblem, seed: int, trials: int) -> int:
    """Stock ``OptunaSearch``, called as Ray's controller does for a function that reports once, or raises."""
    searcher = OptunaSearch(distributions(problem.space), metric=METRIC, mode="max", seed=seed)
    ooms = 0
    for index in range(trials):
        params = searcher.suggest(str(index))
        assert params is not None, "nothing limits the suggestions"
        if problem.fits(params):
            result = {METRIC: problem.value(params, seed), "training_iteration": 1}
            searcher.on_trial_result(str(index), result)
            searcher.on_trial_complete(str(index), result=result)
        else:
            ooms += 1
            searcher.on_trial_complete(str(index), error=True)
    return ooms


@dataclass
class StandInTrial:
    """What the recorder looks at of Ray's trial."""

    trial_id: str
    config: dict[str, Any]
    status: str = "RUNNING"
    max_failures: int = 0


def headroom_ooms(problem: ToyProblem, seed: int, trials: int) -> int:
    """Headroom's searcher and recorder, called as Ray's controller does; the count comes from the study."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_study(Path(folder), "toy", None, StudyRecord(problem.space, "criteria", "macro_f1", "max", "toy"))
        searcher = _searcher(store, problem, seed, trials)
        recorder = _recorder(store, searcher)
        for index in range(trials):
            config = searcher.suggest(str(index))
            assert isinstance(config, dict), "the space holds more configurations than are launched"
            _run_stand_in(problem, seed, StandInTrial(str(index), config), searcher, recorder)
        assert searcher.suggest("one more") == Searcher.FINISHED
        return study_status(store, is_running=False).trials["oom"]


def _searcher(store: StudyStore, problem: ToyProblem, seed: int, trials: int) -> HeadroomSearch:
    return HeadroomSearch(
        store,
        # The seed that run_search draws for the start of a study, so that real Ray can be compared.
        build_proposer("tpe", problem.space, store.study, store.distributions, sub_seed(seed, "sampler:0")),
        rules=[],
        fixed={},
        gpus=lambda params: 0.0,
        adopt=[],
        launched=0,
        total=trials,
        max_concurrent=1,
        ask_ahead=0,
        max_rejections=1000,
    )


def _recorder(store: StudyStore, searcher: HeadroomSearch) -> StudyRecorder:
    return StudyRecorder(
        store,
        searcher,
        CheckpointKeeper(0, []),
        epochs=1,
        scheduler="none",
        on_report=lambda live, value: None,
        on_close=lambda trial: None,
        on_step=lambda live: None,
    )


def _run_stand_in(
    problem: ToyProblem, seed: int, trial: Any, searcher: HeadroomSearch, recorder: StudyRecorder
) -> None:
    """The calls of one trial in the order of Ray's controller: it tells the searcher of an end before its callbacks."""
    said = toy_report(problem, trial.config[PARAMS], seed)
    result = {METRIC: said.value, TIME: said.epoch, FACTS: said.facts, ENDED: said.ended, REASON: said.reason}
    ran_out = said.ended == "oom"
    recorder.on_step_begin(0, [trial])
    recorder.on_trial_start(0, [trial], trial)
    searcher.on_trial_result(trial.trial_id, result)
    recorder.on_trial_result(0, [trial], trial, result)
    searcher.on_trial_complete(trial.trial_id, None if ran_out else result, error=ran_out)
    (recorder.on_trial_error if ran_out else recorder.on_trial_complete)(0, [trial], trial)
    recorder.on_step_end(0, [trial])


def toy_report(problem: ToyProblem, params: Mapping[str, Scalar], seed: int) -> TrialReport:
    """What a trial of Headroom says that trains one epoch, or runs out of memory."""
    if problem.fits(params):
        return TrialReport(1, problem.value(params, seed), ended="complete")
    facts: dict[str, Fact] = {"need_gib": need_gib(params), "allowed_gib": problem.budget_gib}
    return TrialReport(0, math.nan, facts=facts, ended="oom", reason=f"needs {need_gib(params):.2f} GiB")


def _check_on_ray(problems: Sequence[ToyProblem], sides: Mapping[str, Count], trials: int) -> dict[str, Any]:
    """Seed 0 on real Ray: the counts beside those of the loop without workers."""
    on_ray: dict[str, Count] = {"ray": stock_ooms_on_ray, "headroom": headroom_ooms_on_ray}
    found: dict[str, Any] = {}
    for problem in problems:
        found[problem.objective] = {
            side: {"without workers": sides[side](problem, 0, trials), "real Ray": on_ray[side](problem, 0, trials)}
            for side in sides
        }
    print(f"\nseed 0, out of memory of {trials} launched")
    print_table(
        ["objective", "told", "without workers", "real Ray"],
        [[objective, side, *both.values()] for objective, by_side in found.items() for side, both in by_side.items()],
    )
    return found


def stock_ooms_on_ray(problem: ToyProblem, seed: int, trials: int) -> int:
    def trainable(params: dict[str, Any]) -> None:
        if not problem.fits(params):
            raise OutOfMemory("CUDA out of memory")
        tune.report({METRIC: problem.value(params, seed)})

    with tempfile.TemporaryDirectory() as folder, ray_session.joined(None, cpus=1):
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(distributions(problem.space), metric=METRIC, mode="max", seed=seed),
                num_samples=trials,
                max_concurrent_trials=1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, log_to_file=False),
        )
        ooms: int = tuner.fit().num_errors
        return ooms


def headroom_ooms_on_ray(problem: ToyProblem, seed: int, trials: int) -> int:
    def run_trial(settings: TrialSettings, report: Report, workspace: object) -> None:
        report(toy_report(problem, _params_of(settings, problem), seed))

    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            {
                "study": {"name": "toy", "dir": folder},
                "data": {"path": "demo"},
                "train": {"epochs": 1},
                "search": {"trials": trials, "max_concurrent": 1, "seed": seed},
                "scheduler": {"name": "none"},
                "limits": None,
                "tracking": {"enabled": False},
                "space": problem.space.as_dict(),
            }
        )
        return run_search(config, console=Console(), quiet=True, run_trial=run_trial).status.trials["oom"]


def _params_of(settings: TrialSettings, problem: ToyProblem) -> Params:
    """The sampled values, read back from the settings that a trial is given."""
    return {name: getattr(getattr(settings, name.split(".")[0]), name.split(".")[1]) for name in problem.space}


if __name__ == "__main__":
    main()
