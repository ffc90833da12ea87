"""Search quality by epochs spent: Headroom beside random search, the stock searcher and fixed recipes.

Searches are replayed (``replay.py``) on closed-form problems and on recorded trainings (``replayed_problems.py``), four
trials at a time:

- ``random``: 100 random trials that fit, trained to their end.
- ``random + ASHA``: the same with Headroom's ASHA, whole epochs.
- ``stock + ASHA``: Ray's ``OptunaSearch`` with Ray's ``ASHAScheduler``, both at their defaults. A trial that does not
  fit raises, and costs nothing.
- ``Optuna TPE``: the same searcher without a scheduler.
- ``recommended``: only the published settings of the problem's models, in turn, trained to their end.
- ``headroom``: TPE, rules, ASHA with the rungs of ``scheduler.rung: auto``, four recommended configurations first.

Every other side may spend half as many epochs as ``random``. A search's result is the best value without noise among
its complete trials, each valued at its best epoch. ``chosen`` measures how well the study tells the best trial from the
lucky ones: the value without noise of the trial that the study calls the best. ``epochs to it`` is the median number of
epochs trained until the result is within 0.2 points of random's mean after all its trials. A search that does not get
there counts with all epochs of ``random``. A launched trial that runs out of memory costs no epochs here, though it
costs a start.

``below recommended`` counts searches whose ``chosen`` is below the value without noise of the best recommended
configuration that they trained; the shortfall is its mean in points. By its own reports no search of Headroom ends
below them, since they are among its complete trials.

``--tune`` compares floors under TPE's bandwidth on other problems and seeds than those of the report.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from replay import Arm, AtRungs, Replay, replay_headroom, replay_stock  # isort: skip  # It sets Ray's environment.
import optuna
from common import print_json, print_ratio, print_table, standard_error, versions, versions_line
from curves.table import EPOCHS, FOLDER, read_table
from problems import NAMED, FineTuning
from replayed_problems import ClosedForm, Recorded

from search_spaces.space import Params

TRIALS = 100
POINTS = 0.002
"""Largest distance from random's final value that counts as reached: 0.2 points."""
GOAL_RANDOM, GOAL_STOCK = 1 / 8, 1 / 2
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
PACKAGES = ("ray", "optuna", "scikit-learn")
RANDOM, STOCK, HEADROOM, RECOMMENDED = "random", "stock + ASHA", "headroom", "recommended"
# Above the number of trials that any budget lets a search launch.
_MANY = 10_000
# A table with few trainings represents its space badly.
_LEAST_TRAININGS = 100
_TUNED_ON = range(20, 26)
_FLOORS = (0.0, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Name:
    """Problem by name, which every process builds for itself."""

    name: str
    epochs: int

    def __str__(self) -> str:
        return f"{self.name}, {self.epochs} epochs"


@cache
def problem_of(name: Name) -> Any:
    """Build a problem, once in a process, since fitting trees takes seconds."""
    if name.name in NAMED:
        return ClosedForm(NAMED[name.name], name.epochs)
    if name.name.startswith("seed "):
        return ClosedForm(FineTuning(int(name.name.removeprefix("seed "))), name.epochs)
    return Recorded(name.name)


def problem_names() -> list[Name]:
    """Return the problems of the report: closed forms with 3 and 8 epochs, and every table with enough trainings."""
    closed = [Name(name, epochs) for name in NAMED for epochs in (3, 8)]
    tables = [table for table in EPOCHS if (FOLDER / f"{table}.csv").exists()]
    return [*closed, *(Name(table, EPOCHS[table]) for table in tables if len(read_table(table)) >= _LEAST_TRAININGS)]


def rungs_of(problem: Any) -> int:
    """Return the reports an epoch that ``scheduler.rung: auto`` gives a search of a problem."""
    from tune_app.config import parse_config

    batches = ("train.batch_size", "train.grad_accum")
    config = {
        "study": {"name": "bench"},
        "data": {"path": "demo"},
        "train": {"epochs": problem.epochs},
        "space": {
            name: {"choices": list(entry.examples)} for name, entry in problem.space.entries.items() if name in batches
        },
    }
    return parse_config(config).reports_per_epoch(problem.training_rows)


def sides(problem: Any) -> dict[str, Callable[[Any, int, float], Replay]]:
    """Return by name the searches to compare: problem, seed and budget in epochs → replay."""

    def headroom(arm: Arm, trials: int = _MANY) -> Callable[[Any, int, float], Replay]:
        return lambda problem, seed, budget: replay_headroom(problem, seed, arm, trials=trials, budget=budget)

    def stock(*, asha: bool) -> Callable[[Any, int, float], Replay]:
        return lambda problem, seed, budget: replay_stock(problem, seed, trials=_MANY, asha=asha, budget=budget)

    return {
        RANDOM: headroom(Arm("random", "none"), TRIALS),
        "random + ASHA": headroom(Arm("random")),
        STOCK: stock(asha=True),
        "Optuna TPE": stock(asha=False),
        RECOMMENDED: headroom(Arm("random", "none", recommended=TRIALS), 0),
        HEADROOM: headroom(Arm(rung=rungs_of(problem), recommended=4)),
    }


@dataclass(frozen=True)
class Job:
    problem: Name
    side: str
    seed: int

    @property
    def budget(self) -> float:
        """Return the number of epochs that the search may train."""
        whole = float(TRIALS * self.problem.epochs)
        return whole if self.side == RANDOM else max(SHARES) * whole


@dataclass(frozen=True)
class Ran:
    """Replayed search, and the best value without noise of the recommended configurations that it trained."""

    replay: Replay
    recommended: float | None


def run(job: Job) -> Ran:
    """Replay one search in a separate process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    problem = problem_of(job.problem)
    if job.side == RECOMMENDED:
        return Ran(_recipes_alone(problem, job.seed), None)
    replay = sides(problem)[job.side](problem, job.seed, job.budget)
    return Ran(replay, _best_true(problem, replay.recommended) if replay.recommended else None)


def _best_true(problem: Any, configurations: Sequence[Params]) -> float:
    every = problem.per_epoch
    return max(float(max(problem.true_curve(params)[every - 1 :: every])) for params in configurations)


def _recipes_alone(problem: Any, seed: int) -> Replay:
    """Train the recommended configurations in turn, the first of each turn that fits."""
    from replay import train_alone

    fitting = (next((params for params in turn if problem.fits(params)), None) for turn in problem.recommended(seed))
    return train_alone(AtRungs(problem, 1), seed, [params for params in fitting if params is not None])


@dataclass(frozen=True)
class Figures:
    """Figures of a side on a problem, over all seeds.

    Attributes:
        cost: median epochs to the target, and as a share of random's budget.
        reached: share of the seeds that reached the target.
        ooms: launched trials that ran out of memory, in the mean.
        chosen: value without noise of the study's best trial in the end, mean and standard error, in percent.
        at: true value at shares of random's budget, each as mean and standard error, in percent.
    """

    cost: float
    share: float
    reached: float
    ooms: float
    chosen: tuple[float, float]
    at: tuple[tuple[float, float], ...]


def figures_of(runs: Sequence[Ran], target: float, budget: float) -> Figures:
    costs = [min(ran.replay.cost_of(target), budget) for ran in runs]
    at = [[100 * ran.replay.value_at(share * budget) for ran in runs] for share in SHARES]
    return Figures(
        cost=statistics.median(costs),
        share=statistics.median(costs) / budget,
        reached=sum(ran.replay.cost_of(target) <= budget for ran in runs) / len(runs),
        chosen=_mean_and_error([100 * ran.replay.chosen for ran in runs]),
        ooms=statistics.mean(ran.replay.ooms for ran in runs),
        at=tuple(map(_mean_and_error, at)),
    )


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), standard_error(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--problem", action="append", help="one of them alone; repeatable")
    parser.add_argument("--tune", action="store_true", help="compare floors under TPE's bandwidth instead")
    parser.add_argument("--quick", action="store_true", help="one closed form with 3 epochs, 2 seeds")
    arguments = parser.parse_args()
    print(versions_line(*PACKAGES))
    with ProcessPoolExecutor(arguments.processes) as pool:
        if arguments.tune:
            tune(pool, arguments.seeds)
            return
        names = [Name("smooth", 3)] if arguments.quick else problem_names()
        names = [name for name in names if not arguments.problem or name.name in arguments.problem]
        report(pool, names, 2 if arguments.quick else arguments.seeds)


def report(pool: ProcessPoolExecutor, names: Sequence[Name], seeds: int) -> None:
    """Print every side's figures on every problem, and the goals."""
    found: dict[str, Any] = {}
    shares: dict[str, list[float]] = {}
    below: list[float] = []
    for name in names:
        jobs = [Job(name, side, seed) for side in sides(problem_of(name)) for seed in range(seeds)]
        by_side: dict[str, list[Ran]] = {}
        for job, ran in zip(jobs, pool.map(run, jobs), strict=True):
            by_side.setdefault(job.side, []).append(ran)
        target = statistics.mean(ran.replay.value_at(math.inf) for ran in by_side[RANDOM]) - POINTS
        budget = float(TRIALS * name.epochs)
        figures = {side: figures_of(runs, target, budget) for side, runs in by_side.items()}
        _print_problem(name, target, figures, seeds)
        shortfalls = [ran.recommended - ran.replay.chosen for ran in by_side[HEADROOM] if ran.recommended]
        below += shortfalls
        found[str(name)] = {"target": target, **{side: vars(own) for side, own in figures.items()}}
        for side, own in figures.items():
            shares.setdefault(side, []).append(own.share)
    _print_goals(shares, below)
    print_json({"bench": "quality", "seeds": seeds, "versions": versions(*PACKAGES), "problems": found})


def _print_problem(name: Name, target: float, figures: Mapping[str, Figures], seeds: int) -> None:
    problem = problem_of(name)
    print(
        f"\n{name}: {problem.space.describe()}; best there is {100 * problem.best_there_is():.2f}; target"
        f" {100 * target:.2f}, within 0.2 of random's mean after {TRIALS} trials; {seeds} seeds"
    )
    if isinstance(problem, Recorded):
        explained, error = problem.fit_error
        print(f"{problem.runs} recorded trainings; unseen ones: {explained:.0%} explained, off by {100 * error:.2f}")
    print_table(
        [
            "side",
            "epochs to it",
            "of random's",
            "reached",
            "out of memory",
            *(f"at 1/{1 / share:.0f}" for share in SHARES),
            "chosen",
        ],
        [
            [
                side,
                f"{own.cost:.0f}",
                f"{own.share:.3f}",
                f"{own.reached:.0%}",
                f"{own.ooms:.0f}",
                *(f"{mean:.2f} ± {error:.2f}" if mean else "-" for mean, error in (*own.at, own.chosen)),
            ]
            for side, own in figures.items()
        ],
    )


def _print_goals(shares: Mapping[str, Sequence[float]], below: Sequence[float]) -> None:
    print()
    against_random = statistics.median(shares[HEADROOM])
    against_stock = statistics.median(own / stock for own, stock in zip(shares[HEADROOM], shares[STOCK], strict=True))
    print_ratio("headroom / random's budget, epochs to the target, median problem", against_random, GOAL_RANDOM)
    print_ratio("headroom / stock + ASHA, epochs to the target, median problem", against_stock, GOAL_STOCK)
    short = [points for points in below if points > 0]
    mean = 100 * statistics.mean(short) if short else 0.0
    print(
        f"below recommended, without noise: {len(short)} of {len(below)} searches of headroom, by {mean:.2f} points in"
        " the mean; by their reports: 0, as the recommended configurations are among the complete trials"
    )


def tune(pool: ProcessPoolExecutor, seeds: int) -> None:
    """Compare floors by the value after 30 and 100 trials that report once, on problems kept for this."""
    names = [Name(f"seed {number}", 1) for number in _TUNED_ON]
    arms = {
        "random": Arm("random", "none"),
        **{f"floor {floor:g}": Arm(scheduler="none", least_bandwidth=floor) for floor in _FLOORS},
    }
    base: dict[Name, float] = {}
    rows = []
    for label, arm in arms.items():
        jobs = [(name, arm, 1000 + seed) for name in names for seed in range(seeds)]
        runs = list(zip(jobs, pool.map(_one_report, *zip(*jobs, strict=True)), strict=True))
        if not base:
            base = {
                name: statistics.mean(run.value_at(TRIALS) for job, run in runs if job[0] == name) for name in names
            }
        gains = [[100 * (run.value_at(cost) - base[job[0]]) for job, run in runs] for cost in (30, 50, 100)]
        rows.append([label, *(f"{statistics.mean(own):+.2f} ± {standard_error(own):.2f}" for own in gains)])
    print(f"\npoints above random's mean after {TRIALS} trials; {len(names)} problems × {seeds} seeds")
    print_table(["sampler", "30 trials", "50 trials", "100 trials"], rows)


def _one_report(name: Name, arm: Arm, seed: int) -> Replay:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return replay_headroom(AtRungs(problem_of(name), 1), seed, arm, trials=TRIALS, slots=1)


if __name__ == "__main__":
    main()
