"""The searches of the problems of ``toy.py`` and ``problems.py``, one trial at a time: stock and Headroom's.

Both are driven by the calls that Ray's loop makes, in Ray's order, without its workers, because each trial that raises
costs Ray a fresh worker of several seconds.
"""

import argparse
import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tune_app.search import ray_session  # noqa: F401  # isort: skip  # It sets the environment that Ray reads when imported.
import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from stock import distributions
from toy import need_gib

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import Rule
from search_spaces.space import Params, Scalar, Space
from trainables.reports import Fact, TrialReport
from trainables.seeds import sub_seed
from tune_app.outcomes import Outcome
from tune_app.search.messages import ENDED, FACTS, METRIC, PARAMS, REASON, TIME
from tune_app.search.recorder import StudyRecorder
from tune_app.search.sampling import build_proposer
from tune_app.search.searcher import HeadroomSearch
from tune_app.study.checkpoints import CheckpointKeeper, CheckpointStorage
from tune_app.study.record import StudyRecord
from tune_app.study.remote import KeptHere
from tune_app.study.reporting import outcome_of, study_status
from tune_app.study.store import StudyStore, open_study
from tune_app.unit import Unit


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
    """What a search came to.

    Attributes:
        ooms: launched trials that ran out of memory.
        best: value of the best trial, 0 where none ran.
        turned_away: configurations that a rule turned away before launch.
    """

    ooms: int
    best: float
    turned_away: Sequence[Params] = ()


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of a bench that runs these searches."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="launched, per objective, seed and side")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="20 trials, 2 seeds")
    return parser


def trials_and_seeds(arguments: argparse.Namespace) -> tuple[int, int]:
    return (20, 2) if arguments.quick else (arguments.trials, arguments.seeds)


def hush() -> None:
    """Have Optuna and Ray keep to themselves that a trial failed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def search_with_stock(problem: SearchProblem, seed: int, trials: int) -> ToyEnd:
    """Stock ``OptunaSearch``, called as Ray's controller does for a function that reports once, or raises."""
    searcher = OptunaSearch(distributions(problem.space), metric=METRIC, mode="max", seed=seed)
    ooms, best = 0, 0.0
    for index in range(trials):
        params = searcher.suggest(str(index))
        assert params is not None, "nothing limits the suggestions"
        if problem.fits(params):
            result = {METRIC: problem.value(params, seed), "training_iteration": 1}
            best = max(best, result[METRIC])
            searcher.on_trial_result(str(index), result)
            searcher.on_trial_complete(str(index), result=result)
        else:
            ooms += 1
            searcher.on_trial_complete(str(index), error=True)
    return ToyEnd(ooms, best)


def search_with_headroom(problem: SearchProblem, seed: int, trials: int, rules: Sequence[Rule] = ()) -> ToyEnd:
    """Headroom's searcher and recorder, called as Ray's controller does; what came of it is read from the study."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_study(Path(folder), "toy", None, StudyRecord(problem.space, "criteria", "macro_f1", "max", "toy"))
        searcher = _searcher(store, problem, seed, trials, rules)
        recorder = _recorder(store, searcher)
        for index in range(trials):
            config = searcher.suggest(str(index))
            assert isinstance(config, dict), "the space holds more configurations than are launched or turned away"
            _run_stand_in(problem, seed, StandInTrial(str(index), config), searcher, recorder)
        assert searcher.suggest("one more") == Searcher.FINISHED
        status = study_status(store, is_running=False)
        turned_away = [dict(t.params) for t in store.trials() if outcome_of(t) is Outcome.INFEASIBLE]
        return ToyEnd(status.trials["oom"], status.best.value if status.best else 0.0, turned_away)


@dataclass
class StandInTrial:
    """What the recorder looks at of Ray's trial."""

    trial_id: str
    config: dict[str, Any]
    status: str = "RUNNING"
    max_failures: int = 0


def _searcher(
    store: StudyStore, problem: SearchProblem, seed: int, trials: int, rules: Sequence[Rule]
) -> HeadroomSearch:
    return HeadroomSearch(
        store,
        # The seed that run_search draws for the start of a study, so that real Ray can be compared.
        build_proposer(
            "tpe", ActiveSpace(problem.space), store.study, store.distributions, sub_seed(seed, "sampler:0")
        ),
        rules=rules,
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
        CheckpointKeeper(CheckpointStorage("."), 0, []),
        kept=KeptHere(),
        unit=Unit("epoch", 1),
        scheduler="none",
        timeout_s=None,
        on_report=lambda live, value: None,
        on_close=lambda trial: None,
        on_retry=lambda live, why: None,
        on_step=lambda live: None,
    )


def _run_stand_in(
    problem: SearchProblem, seed: int, trial: Any, searcher: HeadroomSearch, recorder: StudyRecorder
) -> None:
    """The calls of one trial in the order of Ray's controller: it tells the searcher of an end before its callbacks."""
    said = toy_report(problem, trial.config[PARAMS], seed)
    result = {METRIC: said.value, TIME: said.step, FACTS: said.facts, ENDED: said.ended, REASON: said.reason}
    ran_out = said.ended == "oom"
    recorder.on_step_begin(0, [trial])
    recorder.on_trial_start(0, [trial], trial)
    searcher.on_trial_result(trial.trial_id, result)
    recorder.on_trial_result(0, [trial], trial, result)
    searcher.on_trial_complete(trial.trial_id, None if ran_out else result, error=ran_out)
    (recorder.on_trial_error if ran_out else recorder.on_trial_complete)(0, [trial], trial)
    recorder.on_step_end(0, [trial])


def toy_report(problem: SearchProblem, params: Mapping[str, Scalar], seed: int) -> TrialReport:
    """What a trial of Headroom says that trains one epoch, or runs out of memory."""
    if problem.fits(params):
        return TrialReport(1, problem.value(params, seed), ended="complete")
    need = _need_gib(problem, params)
    facts: dict[str, Fact] = {"need_gib": need, "allowed_gib": problem.budget_gib}
    return TrialReport(0, math.nan, facts=facts, ended="oom", reason=f"needs {need:.2f} GiB")


def _need_gib(problem: SearchProblem, params: Mapping[str, Scalar]) -> float:
    """Return the need of a configuration, by the formula of ``toy.py`` for a problem that has none itself."""
    formula: Callable[[Mapping[str, Scalar]], float] = getattr(problem, "need_gib", need_gib)
    return formula(params)
