"""Searches of the problems of ``toy.py`` and ``problems.py``, one trial at a time: stock and Headroom's.

Both are driven by the calls of Ray's loop in Ray's order, without its workers (``replay.py``). A trial that raises
costs Ray a fresh worker, which takes several seconds.
"""

import argparse
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from replay import Arm, replay_headroom  # isort: skip  # It sets the environment that Ray reads when imported.
import optuna
from ray.tune.search.optuna import OptunaSearch
from stock import distributions
from toy import need_gib

from search_spaces.rules import Rule
from search_spaces.space import Params, Scalar, Space
from trainables.reports import Fact, TrialReport
from tune_app.distributed.messages import VALUE
from tune_app.sampling.recommended import Turn
from tune_app.study.record import StudyRecord
from tune_app.study.reporting import is_infeasible, study_status
from tune_app.study.store import open_study


class SearchProblem(Protocol):
    """Search problem with a space, a memory budget and a score."""

    @property
    def space(self) -> Space: ...

    @property
    def budget_gib(self) -> float: ...

    def need_gib(self, params: Mapping[str, Scalar]) -> float: ...

    def fits(self, params: Mapping[str, Scalar]) -> bool: ...

    def value(self, params: Mapping[str, Scalar], seed: int) -> float: ...


@dataclass(frozen=True)
class ToyEnd:
    """Outcome of a search.

    Attributes:
        ooms: launched trials that ran out of memory.
        best: value of the best trial, 0 where none ran.
        rejected: configurations that a rule rejected before launch.
    """

    ooms: int
    best: float
    rejected: Sequence[Params] = ()


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of a bench that runs these searches."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="launched, per objective, seed and side")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="20 trials, 2 seeds")
    return parser


def trials_and_seeds(arguments: argparse.Namespace) -> tuple[int, int]:
    return (20, 2) if arguments.quick else (arguments.trials, arguments.seeds)


def hush() -> None:
    """Stop Optuna and Ray from logging failed trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def search_with_stock(problem: SearchProblem, seed: int, trials: int) -> ToyEnd:
    """Run stock ``OptunaSearch``, called as Ray's controller does for a function that reports once, or raises."""
    searcher = OptunaSearch(distributions(problem.space), metric=VALUE, mode="max", seed=seed)
    ooms, best = 0, 0.0
    for index in range(trials):
        params = searcher.suggest(str(index))
        assert params is not None, "nothing limits the suggestions"
        if problem.fits(params):
            result = {VALUE: problem.value(params, seed), "training_iteration": 1}
            best = max(best, result[VALUE])
            searcher.on_trial_result(str(index), result)
            searcher.on_trial_complete(str(index), result=result)
        else:
            ooms += 1
            searcher.on_trial_complete(str(index), error=True)
    return ToyEnd(ooms, best)


def search_with_headroom(problem: SearchProblem, seed: int, trials: int, rules: Sequence[Rule] = ()) -> ToyEnd:
    """Run Headroom's searcher and recorder, called as Ray's controller does; return the outcome from the study."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_study(Path(folder), "toy", None, StudyRecord(problem.space, "criteria", "macro_f1", "max", "toy"))
        replay_headroom(
            _OneReport(problem, seed), seed, Arm(scheduler="none"), trials=trials, slots=1, store=store, rules=rules
        )
        status = study_status(store, is_running=False)
        rejected = [dict(trial.params) for trial in store.trials() if is_infeasible(trial)]
        return ToyEnd(status.trials["oom"], status.best.value if status.best else 0.0, rejected)


class _OneReport:
    """Problem whose trials report once."""

    epochs = per_epoch = 1

    def __init__(self, problem: SearchProblem, seed: int) -> None:
        self._problem = problem
        self._seed = seed

    @property
    def space(self) -> Space:
        return self._problem.space

    @property
    def budget_gib(self) -> float:
        return self._problem.budget_gib

    def need_gib(self, params: Mapping[str, Scalar]) -> float:
        return _need_gib(self._problem, params)

    def fits(self, params: Mapping[str, Scalar]) -> bool:
        return self._problem.fits(params)

    def curve(self, params: Mapping[str, Scalar], seed: int) -> Sequence[float]:
        return [self._problem.value(params, seed)]

    def true_curve(self, params: Mapping[str, Scalar]) -> Sequence[float]:
        """Return the search's own reports, since these problems have no value without noise."""
        return self.curve(params, self._seed)

    def recommended(self, seed: int) -> Iterator[Turn]:
        return iter(())


def toy_report(problem: SearchProblem, params: Mapping[str, Scalar], seed: int) -> TrialReport:
    """Return the report of a trial of Headroom that trains one epoch, or runs out of memory."""
    if problem.fits(params):
        return TrialReport(1, problem.value(params, seed), ended="complete")
    need = _need_gib(problem, params)
    facts: dict[str, Fact] = {"need_gib": need, "allowed_gib": problem.budget_gib}
    return TrialReport(0, math.nan, facts=facts, ended="oom", reason=f"needs {need:.2f} GiB")


def _need_gib(problem: SearchProblem, params: Mapping[str, Scalar]) -> float:
    """Return the need of a configuration, by the formula of ``toy.py`` for a problem that has none itself."""
    formula: Callable[[Mapping[str, Scalar]], float] = getattr(problem, "need_gib", need_gib)
    return formula(params)
