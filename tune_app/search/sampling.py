"""Proposes configurations: TPE, NSGA-II, random or exhaustive; none twice, as long as there are others.

A proposal is a whole configuration, drawn before any trial exists for it, so that a trial's record is written once.
"""

import copy
import itertools
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import NSGAIISampler, TPESampler
from optuna.samplers.nsgaii import BLXAlphaCrossover, PolynomialMutation
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, Scalar, Space

# Draws from the sampler before a seen configuration is replaced by an unseen one from elsewhere in the space.
_REDRAWS = 10
# What is told before a sampler learns from it, as Optuna's TPE has it.
_STARTUP_TRIALS = 10
# Parents of NSGA-II. Optuna's own 50 are more trials than many a search has.
_POPULATION = 20
# How near a mutated value of a range stays to the old one: half of them within a tenth of the range.
_MUTATION_ETA = 5
# Random draws after which an endless space counts as exhausted: what is endless in it cannot be read.
_CHANCES = 1_000


class Draw(Protocol):
    """Draws one configuration, seen before or not."""

    def __call__(self) -> Params: ...


class Proposer:
    """Proposes configurations that this study has not seen, every value that nothing reads at its one value.

    Args:
        draw: None goes through a discrete space in its fixed order.
    """

    def __init__(self, space: ActiveSpace, draw: Draw | None, seed: int) -> None:
        self._space = space
        self._draw = draw
        self._rng = random.Random(seed)
        self._seen: set[str] = set()
        self._next_in_order = 0

    def mark_seen(self, params: Mapping[str, Scalar]) -> None:
        self._seen.add(self._space.key(params))

    def propose(self) -> Params | None:
        """A configuration to try next, or None when the space holds no unseen one."""
        size = self._space.size
        if size is not None and len(self._seen) >= size:
            return None
        if self._draw is not None:
            drawn = self._unseen_of(self._draw, _REDRAWS)
            if drawn is not None:
                return drawn
        if size is None:
            return self._unseen_of(lambda: self._space.space.sample(self._rng), _CHANCES)
        return self._first_unseen(self._next_in_order if self._draw is None else self._rng.randrange(size), size)

    def _unseen_of(self, draw: Draw, tries: int) -> Params | None:
        for _ in range(tries):
            params = self._space.normalised(draw())
            if not self._is_seen(params):
                return params
        return None

    def _first_unseen(self, start: int, size: int) -> Params | None:
        for index in itertools.chain(range(start, size), range(start)):
            params = self._space.config_at(index)
            if not self._is_seen(params):
                self._next_in_order = index
                return params
        return None

    def _is_seen(self, params: Mapping[str, Scalar]) -> bool:
        return self._space.key(params) in self._seen


def build_proposer(
    sampler: str, space: ActiveSpace, study: optuna.Study, distributions: dict[str, BaseDistribution], seed: int
) -> Proposer:
    """A proposer for the setting ``search.sampler`` that knows every trial of the study.

    Args:
        seed: for this start of the search. A resumed search must come with another one, or it repeats its first draws.

    Raises:
        ValueError: the sampler is unknown, or ``exhaustive`` in an endless space.
    """
    if sampler == "exhaustive" and space.size is None:
        raise ValueError("search.sampler: exhaustive needs a space without float ranges")
    proposer = Proposer(space, _draw_for(sampler, space.space, study, distributions, seed), seed)
    for trial in study.get_trials(deepcopy=False):
        proposer.mark_seen(trial.params)
    return proposer


def _draw_for(
    sampler: str, space: Space, study: optuna.Study, distributions: dict[str, BaseDistribution], seed: int
) -> Draw | None:
    if sampler == "tpe":
        return TpeDraw(space, study, distributions, seed)
    if sampler == "nsga2":
        return NsgaDraw(space, study, distributions, seed)
    if sampler == "random":
        rng = random.Random(seed)
        return lambda: space.sample(rng)
    if sampler == "exhaustive":
        return None
    raise ValueError(f"search.sampler: {sampler!r} is not tpe, nsga2, random or exhaustive")


class TpeDraw:
    """Multivariate TPE over the whole space at once, on the trials of a study; random until it has ten to learn from.

    Where the study has several objectives it is Optuna's multi-objective TPE, which learns from the trials that no
    other beats. What was turned away or ran out of memory counts as worse than all that ran, by its constraints.
    Running trials count as bad for as long as they run (constant liar), so that trials asked for at once differ.
    Choices that are numbers are learnt by their rank: what batch 64 taught then tells something of 128 too, so that a
    searcher which met the end of memory turns back sooner.
    """

    def __init__(
        self, space: Space, study: optuna.Study, distributions: dict[str, BaseDistribution], seed: int
    ) -> None:
        self._space = space
        self._study = study
        # A parameter with one value has nothing to be learnt, and TPE does not take it.
        scales = {name: _Scale(dist) for name, dist in distributions.items() if not dist.single()}
        self._fixed = {name: entry.examples[0] for name, entry in space.entries.items() if name not in scales}
        self._scales = scales
        self._learnt = {name: scale.learnt for name, scale in scales.items()}
        self._sampler = _WholeSpaceTpe(scales, seed)
        self._rng = random.Random(seed)

    def __call__(self) -> Params:
        not_yet_a_trial = create_trial(state=TrialState.RUNNING)
        drawn = self._sampler.sample_relative(self._study, not_yet_a_trial, self._learnt)
        if not drawn:
            return self._space.sample(self._rng)
        values = {**self._fixed, **{name: self._scales[name].value(drawn[name]) for name in drawn}}
        return {name: values[name] for name in self._space}


class _Scale:
    """How TPE sees a parameter: as the study keeps it, but numbers among choices by their rank.

    ``learnt`` is the distribution that TPE is given in place of the study's.
    """

    def __init__(self, distribution: BaseDistribution) -> None:
        self.learnt = distribution
        self._ranked: list[Scalar] | None = None
        if isinstance(distribution, CategoricalDistribution) and _are_numbers(distribution.choices):
            self._ranked = sorted(choice for choice in distribution.choices if isinstance(choice, int | float))
            self.learnt = IntDistribution(0, len(self._ranked) - 1)

    def number(self, value: Any) -> float:
        """A trial's value as the number that TPE computes with."""
        return self.learnt.to_internal_repr(value if self._ranked is None else self._ranked.index(value))

    def value(self, drawn: Any) -> Scalar:
        """What TPE drew as a value of the space."""
        value: Scalar = drawn if self._ranked is None else self._ranked[drawn]
        return value


def _are_numbers(choices: Sequence[Any]) -> bool:
    return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)


class _WholeSpaceTpe(TPESampler):
    """TPE for a configuration that has no trial yet: nothing is written to the storage while it is drawn."""

    def __init__(self, scales: Mapping[str, _Scale], seed: int) -> None:
        super().__init__(n_startup_trials=_STARTUP_TRIALS, seed=seed)
        self._scales = scales
        self._rows: dict[int, list[float]] = {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # The public method also stores the draw with the trial, for other processes that sample at the same time; here
        # there is one process, and the trial is recorded whole a moment later. And it counts the trials to learn from
        # in a list that is renewed only when a trial is told: samples that were turned away would not be among them.
        told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if not search_space or len(told) < self._n_startup_trials:
            return {}
        return self._sample(study, trial, search_space)

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> dict[str, NDArray[np.float64]]:
        # Every draw looks at every trial, whose parameters never change: what they are as numbers is worked out once.
        # A trial that lacks some, as others may write it, is left out, as Optuna does.
        for trial in trials:
            if trial.number not in self._rows and self._scales.keys() <= trial.params.keys():
                self._rows[trial.number] = [scale.number(trial.params[name]) for name, scale in self._scales.items()]
        rows = [self._rows[trial.number] for trial in trials if trial.number in self._rows]
        table = np.array(rows, dtype=float).reshape(len(rows), len(self._scales))
        return {name: table[:, column] for column, name in enumerate(self._scales)}


class NsgaDraw:
    """NSGA-II over the whole space at once, for studies of several objectives; random until it has ten to learn from.

    Its parents are the best of all trials told so far, so that no trial waits for a generation to be complete and short
    searches learn, too. What was turned away or ran out of memory stands behind all that ran, the more it exceeded the
    further (constrained domination): such a trial is a parent only while there are not enough others.

    K. Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on Evolutionary
    Computation 6(2), 2002; section VI on constraints.
    """

    def __init__(
        self, space: Space, study: optuna.Study, distributions: dict[str, BaseDistribution], seed: int
    ) -> None:
        self._space = space
        self._study = study
        # A parameter with one value has nothing to be crossed, and Optuna does not take it.
        self._crossed = {name: dist for name, dist in distributions.items() if not dist.single()}
        self._sampler = _WholeSpaceNsga(seed)
        self._rng = random.Random(seed)

    def __call__(self) -> Params:
        not_yet_a_trial = create_trial(state=TrialState.RUNNING)
        child = self._sampler.sample_relative(self._study, not_yet_a_trial, self._crossed)
        # A choice that mutates is drawn anew, and left out of the child.
        values = {**self._space.sample(self._rng), **child}
        return {name: values[name] for name in self._space}


class _WholeSpaceNsga(NSGAIISampler):
    """NSGA-II for a configuration that has no trial yet: nothing is written to the storage while it is drawn."""

    def __init__(self, seed: int) -> None:
        with warnings.catch_warnings():
            # Optuna marks them as experimental. Left to itself, it makes values that no parent has by drawing them
            # anywhere, and a search that is still looking for what can run comes no nearer to it.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            crossover, mutation = BLXAlphaCrossover(), PolynomialMutation(_MUTATION_ETA)
        super().__init__(population_size=_POPULATION, crossover=crossover, mutation=mutation, seed=seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # The public method keeps generations in the storage, and knows complete trials alone.
        told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        individuals = [_as_individual(trial, len(study.directions)) for trial in told if _teaches(trial, search_space)]
        if not search_space or len(individuals) < _STARTUP_TRIALS:
            return {}
        parents = self._elite_population_selection_strategy(study, individuals)
        return self._child_generation_strategy(study, search_space, parents)


def _teaches(trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> bool:
    """Whether a trial that was told has values, or violated a constraint, and all parameters."""
    is_known = trial.state == TrialState.COMPLETE or any(excess > 0 for excess in trial.constraints.values())
    return is_known and search_space.keys() <= trial.params.keys()


def _as_individual(trial: FrozenTrial, objectives: int) -> FrozenTrial:
    """A trial as NSGA-II takes it: what was pruned for its excess as complete, its place decided by that alone."""
    if trial.state == TrialState.COMPLETE:
        return trial
    shown = copy.copy(trial)
    shown.state = TrialState.COMPLETE
    # Of one that violates a constraint no value is looked at, but there must be one.
    shown.values = [0.0] * objectives
    return shown
