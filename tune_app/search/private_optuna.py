"""Every private name of Optuna that a search rests on, as read in Optuna 5.0.0.

``tests/tune_app/search/test_private_optuna.py`` asserts that each exists and does what is relied on here.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.samplers.nsgaii import BLXAlphaCrossover, PolynomialMutation
from optuna.trial import FrozenTrial, TrialState

Columns = dict[str, NDArray[np.float64]]
"""The parameters of trials as numbers: name → one number a trial, in the order of the trials."""


class _SmoothEstimator(_ParzenEstimator):
    """Parzen estimator whose numeric kernels are never narrower than a share of their range."""

    least_bandwidth = 0.0

    def _calculate_numerical_distributions(self, *arguments: Any, **named: Any) -> Any:
        kernels: Any = super()._calculate_numerical_distributions(*arguments, **named)
        least = self.least_bandwidth * (kernels.adapted_high - kernels.adapted_low)
        return kernels._replace(sigma=np.maximum(kernels.sigma, least))


class CandidateTpe(TPESampler):
    """Multivariate TPE that yields candidates instead of one draw, and learns from the trials that it is given.

    Args:
        least_bandwidth: floor under the bandwidth of numeric kernels, as a share of the parameter's range.
        columns: returns the parameters of trials as numbers; a trial that lacks some is left out.
    """

    def __init__(
        self, *, seed: int, least_bandwidth: float, columns: Callable[[Sequence[FrozenTrial]], Columns]
    ) -> None:
        super().__init__(seed=seed)
        self._columns = columns

        class Smooth(_SmoothEstimator):
            pass

        Smooth.least_bandwidth = least_bandwidth
        self._parzen_estimator_cls = Smooth

    def candidates(
        self,
        study: optuna.Study,
        trials: Sequence[FrozenTrial],
        space: dict[str, BaseDistribution],
        *,
        lots: int,
        size: int,
    ) -> Iterator[dict[str, Any]]:
        """Yield draws from l(x), those of each lot by falling l(x) / g(x).

        Args:
            trials: finished and running ones, all of which teach; running ones count as bad (constant liar).
            space: parameters as TPE is to see them; none of them with a single value.
            lots: number of lots; one is drawn when the lot before is used up.
            size: draws in a lot.
        """
        gamma = default_gamma if len(study.directions) == 1 else default_gamma_multiobjective
        finished = sum(trial.state != TrialState.RUNNING for trial in trials)
        good, bad = _split_trials(study, list(trials), gamma(finished))
        likely = self._build_parzen_estimator(study, space, good, handle_below=True)
        unlikely = self._build_parzen_estimator(study, space, bad, handle_below=False)
        for _ in range(lots):
            drawn = likely.sample(self._rng.rng, size)
            gains = self._compute_acquisition_func(drawn, likely, unlikely)
            for place in np.argsort(-gains, kind="stable"):
                yield {name: space[name].to_external_repr(drawn[name][place].item()) for name in space}

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> Columns:
        return self._columns(trials)


class ChildNsga(NSGAIISampler):
    """NSGA-II that makes one child of the best of given trials, and writes nothing to the storage.

    Args:
        population: number of parents.
        mutation_eta: distribution index of polynomial mutation: the higher, the nearer to the parent.
    """

    def __init__(self, *, seed: int, population: int, mutation_eta: float) -> None:
        with warnings.catch_warnings():
            # Optuna marks them as experimental. Its default draws mutated values from anywhere in the range, so that a
            # search that still looks for what can run comes no nearer to it.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            crossover, mutation = BLXAlphaCrossover(), PolynomialMutation(mutation_eta)
        super().__init__(population_size=population, crossover=crossover, mutation=mutation, seed=seed)

    def child(
        self, study: optuna.Study, individuals: list[FrozenTrial], space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a child of the best individuals; a parameter whose choice mutates is left out."""
        parents = self._elite_population_selection_strategy(study, individuals)
        return self._child_generation_strategy(study, space, parents)
