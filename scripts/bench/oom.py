"""Launched trials that run out of memory despite the memory rule, and the configurations that it rejects.

The searches run on the toy problems of ``toy.py``, of which half does not fit: one trial at a time, without Ray's
workers (``toy_search.py``). Every side launches the same number of trials:

- ``stock``: Ray's ``OptunaSearch``; the trial raises, and Optuna records FAIL.
- ``told PRUNED``: Headroom without rules, so that Optuna records PRUNED with the constraint ``memory``.
- ``rule, exact``: Headroom with the rule ``memory``, whose predicted needs are exact.
- ``rule, errors``: the same, but each predicted need is off by a random share.

A trial runs out of memory if its true need exceeds the budget of its card. The rule rejects a configuration if its
predicted need exceeds the allowed memory: the budget less the headroom, 10 % as by default. A rejected configuration
would have run if its true need is at most the allowed memory. Beside that share stands the stricter one, whose true
need is at most the budget; it includes the cost of the headroom.

The errors are drawn anew for each seed, one for each model, batch and length. They follow a Weibull distribution of
either sign, whose size has the median and the 95th percentile that are the goal for predictions on a GPU: 3 % and 8 %.
Of these errors 0.8 % are too small by more than the headroom. The bench leaves out errors that one model's sizes have
in common, corrections learnt from earlier trials, and the remedies of a trial that runs out of memory. A batch runs at
once, whereas Headroom splits it into micro-batches, so that its rule needs the need of one sample.

With exact needs, the rule launches nothing that runs out of memory and rejects nothing that would have run, provided
that nothing bypasses it. The goals apply to this side, and the exit status is 1 if one is missed. The side with errors
shows how much of that remains. Only a need predicted too small by more than the headroom can run out of memory. A
configuration that needs nearly all of the allowed memory is rejected if its prediction is a little too large. The share
that would have run therefore shows how dense the space is just below that limit; another headroom moves the limit, not
the share. The searches meet few such configurations, so the line on errors gives both figures for the whole space and
many draws.

All sides may use the same memory: sides without the rule run on a card whose budget is the memory that the rule allows.
The best values, each with its standard error over the seeds, therefore compare the searchers. Beside them stand the
best possible value, and the value of an average configuration, which a search that finds nothing reaches.
"""

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import print_json, print_ratio, print_table, standard_error, versions, versions_line
from toy import OBJECTIVES, ToyProblem, need_gib, noise
from toy_search import ToyEnd, hush, new_parser, search_with_headroom, search_with_stock, trials_and_seeds

from search_spaces.rules import MemoryRule, PredictedFit, Sample
from trainables.settings import MemorySettings

HEADROOM = MemorySettings().headroom
OOM_TARGET, WOULD_HAVE_RUN_TARGET = 2.0, 0.5
MEDIAN_ERROR, P95_ERROR = 0.03, 0.08
PACKAGES = ("ray", "optuna")
STOCK, EXACT, ERRORS = "stock", "rule, exact", "rule, errors"

# Number of draws of the errors for their effect on the whole space.
_DRAWS = 200
# The size of an error has the distribution 1 - exp(-(size / scale) ** shape), fitted to its two percentiles.
_SHAPE: float = math.log(math.log(20) / math.log(2)) / math.log(P95_ERROR / MEDIAN_ERROR)
_SCALE: float = MEDIAN_ERROR / math.log(2) ** (1 / _SHAPE)


def no_error(params: Mapping[str, Any]) -> float:
    return 0.0


@dataclass(frozen=True)
class SmallerCard:
    """Problem on a card that has no more memory than the rule allows."""

    problem: ToyProblem

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)

    @property
    def budget_gib(self) -> float:
        return allowed_gib(self.problem)

    def fits(self, params: Mapping[str, Any]) -> bool:
        return need_gib(params) <= self.budget_gib


@dataclass(frozen=True)
class Errors:
    """Relative errors of predicted needs, equal for configurations with the same need."""

    seed: int

    def __call__(self, params: Mapping[str, Any]) -> float:
        key = f"{self.seed}:{params['model.name']}:{params['train.batch_size']}:{params['tok.max_length']}"
        size = _SCALE * math.pow(-math.log1p(-noise(f"size:{key}")), 1 / _SHAPE)
        return size if noise(f"sign:{key}") < 0.5 else -size


def allowed_gib(problem: ToyProblem) -> float:
    return problem.budget_gib * (1 - HEADROOM)


def memory_rule(problem: ToyProblem, error: Callable[[Mapping[str, Any]], float]) -> MemoryRule:
    """Return Headroom's rule with an error in every predicted need."""
    allowed = allowed_gib(problem)

    def predict(sample: Sample) -> PredictedFit:
        predicted = need_gib(sample.params) * (1 + error(sample.params))
        fits = predicted <= allowed
        return PredictedFit(
            need_gib=predicted,
            allowed_gib=allowed,
            budget_gib=problem.budget_gib,
            micro_batch=sample.batch if fits else 0,
            passes=sample.accumulation if fits else None,
            checkpointing=False,
        )

    return MemoryRule(predict)


def with_rule(problem: ToyProblem, seed: int, trials: int) -> ToyEnd:
    return search_with_headroom(problem, seed, trials, [memory_rule(problem, no_error)])


def with_errors(problem: ToyProblem, seed: int, trials: int) -> ToyEnd:
    return search_with_headroom(problem, seed, trials, [memory_rule(problem, Errors(seed))])


def stock(problem: ToyProblem, seed: int, trials: int) -> ToyEnd:
    return search_with_stock(SmallerCard(problem), seed, trials)


def told_pruned(problem: ToyProblem, seed: int, trials: int) -> ToyEnd:
    return search_with_headroom(SmallerCard(problem), seed, trials)


SIDES: dict[str, Callable[[ToyProblem, int, int], ToyEnd]] = {
    STOCK: stock,
    "told PRUNED": told_pruned,
    EXACT: with_rule,
    ERRORS: with_errors,
}


@dataclass(frozen=True)
class Figures:
    """One side of one problem over all seeds. Shares and rejections are in percent.

    Attributes:
        ooms: launched trials that ran out of memory, by seed.
        to_stock: their sum divided by that of the stock searcher.
        best: mean of the best values.
        best_error: standard error of ``best``.
        rejected: rejected configurations per 100 launched trials.
        within_allowed: share of these whose true need is at most the allowed memory.
        within_budget: share of these whose true need is at most the budget.
    """

    ooms: list[int]
    to_stock: float
    best: float
    best_error: float
    rejected: float
    within_allowed: float
    within_budget: float


def main() -> int:
    arguments = new_parser(__doc__).parse_args()
    trials, seeds = trials_and_seeds(arguments)
    hush()
    problems = [ToyProblem(objective) for objective in OBJECTIVES]
    print(versions_line(*PACKAGES))
    _print_space(problems[0], range(seeds))
    found = {problem.objective: compare(problem, range(seeds), trials) for problem in problems}
    _print_figures(found, trials)
    print()
    missed = _print_goals("exact", [figures[EXACT] for figures in found.values()], trials)
    _print_goals("errors", [figures[ERRORS] for figures in found.values()], trials)
    print("errors: what would have run needs nearly all that is allowed, and was predicted a little too large")
    sides = {objective: {side: vars(own) for side, own in figures.items()} for objective, figures in found.items()}
    settings = {"versions": versions(*PACKAGES), "trials": trials, "seeds": seeds, "headroom": HEADROOM}
    print_json({"bench": "oom", **settings, "figures": sides, "missed": missed})
    return 1 if missed else 0


def _print_space(problem: ToyProblem, seeds: Sequence[int]) -> None:
    configurations = list(problem.configurations())
    allowed = allowed_gib(problem)
    within = _percent([need_gib(params) <= allowed for params in configurations])
    print(
        f"{problem.space.describe()}, {problem.share_that_fits:.1%} fit into the budget of"
        f" {problem.budget_gib:.3f} GiB, {within:.1f}% into the {allowed:.3f} GiB allowed"
    )
    shapes = list({need_gib(params): params for params in configurations}.items())
    drawn = [(need, Errors(draw)(params)) for draw in range(_DRAWS) for need, params in shapes]
    sizes = statistics.quantiles((abs(error) for _, error in drawn), n=20)
    let_through = [need > problem.budget_gib for need, error in drawn if need * (1 + error) <= allowed]
    rejected = [need <= allowed for need, error in drawn if need * (1 + error) > allowed]
    print(
        f"errors, {_DRAWS} draws for the whole space: median {sizes[9]:.1%}, 95th percentile {sizes[18]:.1%}, too small"
        f" by more than the headroom {_percent([error < -HEADROOM for _, error in drawn]):.1f}%;\n"
        f"  of what the rule accepts {_percent(let_through):.2f}% runs out of memory, of what it rejects"
        f" {_percent(rejected):.2f}% would have run"
    )
    known = [f"{objective} {_known_values(ToyProblem(objective), seeds)}" for objective in OBJECTIVES]
    print(f"values as allowed, mean of the seeds: {'; '.join(known)}")


def _known_values(problem: ToyProblem, seeds: Sequence[int]) -> str:
    """Return the best possible value and that of an average configuration, as text."""
    allowed = [params for params in problem.configurations() if need_gib(params) <= allowed_gib(problem)]
    values = [[problem.value(params, seed) for params in allowed] for seed in seeds]
    return f"best {statistics.mean(map(max, values)):.3f}, average {statistics.mean(map(statistics.mean, values)):.3f}"


def compare(problem: ToyProblem, seeds: Sequence[int], trials: int) -> dict[str, Figures]:
    """Return the figures of the launched trials and of the rejected configurations, by side."""
    ends = {side: [search(problem, seed, trials) for seed in seeds] for side, search in SIDES.items()}
    of_stock = sum(end.ooms for end in ends[STOCK])
    return {side: _figures(problem, own, of_stock, trials) for side, own in ends.items()}


def _figures(problem: ToyProblem, ends: Sequence[ToyEnd], of_stock: int, trials: int) -> Figures:
    needs = [need_gib(params) for end in ends for params in end.rejected]
    ooms = [end.ooms for end in ends]
    return Figures(
        ooms=ooms,
        to_stock=sum(ooms) / of_stock,
        best=statistics.mean(end.best for end in ends),
        best_error=standard_error([end.best for end in ends]),
        rejected=100 * len(needs) / (trials * len(ends)),
        within_allowed=_percent([need <= allowed_gib(problem) for need in needs]),
        within_budget=_percent([need <= problem.budget_gib for need in needs]),
    )


def _percent(whether: Sequence[bool]) -> float:
    """Return the share of true values in percent; 0 without values."""
    return 100 * sum(whether) / max(1, len(whether))


def _print_figures(found: Mapping[str, Mapping[str, Figures]], trials: int) -> None:
    print(f"\nout of memory, of {trials} launched; rejected for 100 launched, and what of it would have run")
    last = ["best value", "rejected", "need ≤ allowed", "need ≤ budget"]
    print_table(
        ["objective", "side", "mean", "worst", "to stock", *last],
        [
            [objective, side, f"{statistics.mean(own.ooms):.1f}", max(own.ooms), *_cells(own)]
            for objective, figures in found.items()
            for side, own in figures.items()
        ],
    )


def _cells(own: Figures) -> list[str]:
    shares = [f"{share:.1f} %" for share in (own.within_allowed, own.within_budget)]
    return [
        f"{own.to_stock:.2f} ×",
        f"{own.best:.3f} ± {own.best_error:.3f}",
        f"{own.rejected:.1f}",
        *(shares if own.rejected else "--"),
    ]


def _print_goals(label: str, found: Sequence[Figures], trials: int) -> list[str]:
    """Print the goals beside the worst seed and the worse objective; return the names of the missed ones."""
    ooms = 100 * max(max(figures.ooms) for figures in found) / trials
    would_have_run = max(figures.within_allowed for figures in found)
    goals = [
        ("out of memory of 100 launched, worst seed", ooms, OOM_TARGET, ""),
        ("of what was rejected would have run", would_have_run, WOULD_HAVE_RUN_TARGET, " %"),
    ]
    return [
        what for what, value, target, unit in goals if not print_ratio(f"{label}, {what}", value, target, unit=unit)
    ]


if __name__ == "__main__":
    sys.exit(main())
