"""NSGA-II over the whole space at once, for studies of several objectives."""

import copy
import random
from collections.abc import Iterator, Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params
from tune_app.sampling.draw import Draw, SamplerFacts
from tune_app.sampling.private import ChildNsga

_STARTUP_TRIALS = 10
# Optuna's default of 50 parents exceeds the number of trials in many searches.
_POPULATION = 20
# With this index, half of the mutated values stay within a tenth of their range.
_MUTATION_ETA = 5
# Children per set of parents, and number of sets before the proposer takes any unseen configuration.
_CHILDREN = 4
_GENERATIONS = 250


class NsgaDraw:
    """Draw of children of the best trials so far; random until ten trials are informative.

    The parents are the best of all ended trials, so no trial waits for a generation and short searches learn, too.
    Trials that were rejected or ran out of memory rank behind all that ran, by their excess (constrained domination).
    They are parents only while there are too few others.

    K. Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on Evolutionary
    Computation 6(2), 2002; section VI on constraints.
    """

    def __init__(
        self, space: ActiveSpace, study: optuna.Study, distributions: Mapping[str, BaseDistribution], seed: int
    ) -> None:
        self._space = space.space
        self._study = study
        # A parameter with a single value cannot be crossed, and Optuna does not accept it.
        self._crossed = {name: dist for name, dist in distributions.items() if not dist.single()}
        self._sampler = ChildNsga(seed=seed, population=_POPULATION, mutation_eta=_MUTATION_ETA)
        self._rng = random.Random(seed)

    def __call__(self) -> Iterator[Params]:
        for _ in range(_GENERATIONS):
            # Reload the trials, so that rejected children inform the next ones.
            ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            individuals = [
                _as_individual(trial, len(self._study.directions)) for trial in ended if _teaches(trial, self._crossed)
            ]
            learns = bool(self._crossed) and len(individuals) >= _STARTUP_TRIALS
            for _ in range(_CHILDREN):
                child = self._sampler.child(self._study, individuals, self._crossed) if learns else {}
                # A mutated choice is missing from the child and is drawn anew.
                values = {**self._space.sample(self._rng), **child}
                yield {name: values[name] for name in self._space}


def _teaches(trial: FrozenTrial, crossed: Mapping[str, BaseDistribution]) -> bool:
    """Return whether an ended trial has all parameters, and either values or a violated constraint."""
    is_known = trial.state == TrialState.COMPLETE or any(excess > 0 for excess in trial.constraints.values())
    return is_known and crossed.keys() <= trial.params.keys()


def _as_individual(trial: FrozenTrial, objectives: int) -> FrozenTrial:
    """Return a trial in the form that NSGA-II accepts: a pruned one as complete, ranked by its excess alone."""
    if trial.state == TrialState.COMPLETE:
        return trial
    shown = copy.copy(trial)
    shown.state = TrialState.COMPLETE
    # Optuna ignores an infeasible trial's values but requires them.
    shown.values = [0.0] * objectives
    return shown


def build(facts: SamplerFacts) -> Draw:
    return NsgaDraw(facts.space, facts.study, facts.distributions, facts.seed)
