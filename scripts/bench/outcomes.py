"""Launched trials that run out of memory when half of the space does not fit and no rule is active.

Both sides search the toy problem of ``toy.py``, with the same space, budget, objectives, seeds and number of launched
trials, one trial at a time:

- ``ray``: stock ``OptunaSearch``; the trial raises, so Ray reports "error" and Optuna records FAIL, which TPE ignores.
- ``headroom``: ``HeadroomSearch`` and ``StudyRecorder``; the trial reports by how much its need exceeds the budget, so
  Optuna records PRUNED with the constraint ``memory``. No configuration is launched twice.

Ray's loop runs without its workers (``toy_search.py``). ``--ray`` also runs one seed on real Ray and compares the
counts.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tune_app.distributed import cluster  # isort: skip  # First of all: it sets the environment that Ray reads when imported.
from common import print_json, print_ratio, print_table, standard_error, versions, versions_line
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from stock import distributions
from toy import OBJECTIVES, ToyProblem
from toy_search import (
    ToyEnd,
    hush,
    new_parser,
    search_with_headroom,
    search_with_stock,
    toy_report,
    trials_and_seeds,
)

from search_spaces.space import Params
from trainables.reports import Report
from trainables.settings import TrialSettings
from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.distributed.messages import VALUE
from tune_app.experiment import run_search

TARGET = 0.6
PACKAGES = ("ray", "optuna")
Count = Callable[[ToyProblem, int, int], int]
Search = Callable[[ToyProblem, int, int], ToyEnd]


class OutOfMemory(RuntimeError):
    """Stand-in for ``torch.OutOfMemoryError``; Ray's searcher interface does not receive its type."""


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--ray", action="store_true", help="run seed 0 on real Ray too (minutes)")
    arguments = parser.parse_args()
    trials, seeds = trials_and_seeds(arguments)
    hush()
    problems = [ToyProblem(objective) for objective in OBJECTIVES]
    share = problems[0].share_that_fits
    print(versions_line(*PACKAGES))
    print(f"{problems[0].space.describe()}, {share:.1%} fit into {problems[0].budget_gib:.3f} GiB")
    sides: dict[str, Search] = {"ray": search_with_stock, "headroom": search_with_headroom}
    ends = {p.objective: _ends(p, sides, range(seeds), trials) for p in problems}
    ooms = {
        objective: {side: [end.ooms for end in own] for side, own in by_side.items()}
        for objective, by_side in ends.items()
    }
    ratios = _print_counts(ends, problems, trials)
    found = {"bench": "outcomes", "versions": versions(*PACKAGES), "trials": trials, "seeds": seeds}
    found |= {"share_that_fits": share, "ooms": ooms, "ratios": ratios}
    if arguments.ray:
        counts: dict[str, Count] = {"ray": stock_ooms, "headroom": headroom_ooms}
        found["on_real_ray"] = _check_on_ray(problems, counts, trials)
    total = sum(sum(counts["headroom"]) for counts in ooms.values()) / sum(sum(c["ray"]) for c in ooms.values())
    print_ratio("headroom / ray, out of memory, all", total, TARGET)
    print_json({**found, "ratio": total})


def _ends(
    problem: ToyProblem, sides: Mapping[str, Search], seeds: Sequence[int], trials: int
) -> dict[str, list[ToyEnd]]:
    return {side: [search(problem, seed, trials) for seed in seeds] for side, search in sides.items()}


def _print_counts(
    ends: Mapping[str, Mapping[str, Sequence[ToyEnd]]], problems: Sequence[ToyProblem], trials: int
) -> dict[str, float]:
    totals = {
        objective: {side: sum(end.ooms for end in own) for side, own in by_side.items()}
        for objective, by_side in ends.items()
    }
    ratios = {objective: counts["headroom"] / counts["ray"] for objective, counts in totals.items()}
    print(f"\nout of memory, of {trials} launched, and the best value of a trial that ran")
    rows = []
    for problem in problems:
        for side, own in ends[problem.objective].items():
            found = [end.best for end in own]
            rows.append(
                [
                    problem.objective,
                    side,
                    f"{totals[problem.objective][side] / len(own):.1f}",
                    max(end.ooms for end in own),
                    f"{ratios[problem.objective]:.2f} ×",
                    f"{statistics.mean(found):.3f} ± {standard_error(found):.3f}",
                    f"{statistics.mean(_best_there_is(problem, seed) for seed in range(len(own))):.3f}",
                ]
            )
    print_table(["objective", "told", "mean", "worst", "headroom / ray", "best value", "best there is"], rows)
    return ratios


def _best_there_is(problem: ToyProblem, seed: int) -> float:
    return max(problem.value(params, seed) for params in problem.configurations() if problem.fits(params))


def stock_ooms(problem: ToyProblem, seed: int, trials: int) -> int:
    return search_with_stock(problem, seed, trials).ooms


def headroom_ooms(problem: ToyProblem, seed: int, trials: int) -> int:
    return search_with_headroom(problem, seed, trials).ooms


def _check_on_ray(problems: Sequence[ToyProblem], sides: Mapping[str, Count], trials: int) -> dict[str, Any]:
    """Run seed 0 on real Ray; return its counts beside those of the loop without workers."""
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
        tune.report({VALUE: problem.value(params, seed)})

    with tempfile.TemporaryDirectory() as folder, cluster.joined(None, cluster.Offer(cpus=1)):
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(distributions(problem.space), metric=VALUE, mode="max", seed=seed),
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
        return run_search(config, console=Console(), quiet=True, run_trial=run_trial, checks=()).status.trials["oom"]


def _params_of(settings: TrialSettings, problem: ToyProblem) -> Params:
    """Return the sampled values from a trial's settings."""
    return {name: getattr(getattr(settings, name.split(".")[0]), name.split(".")[1]) for name in problem.space}


if __name__ == "__main__":
    main()
