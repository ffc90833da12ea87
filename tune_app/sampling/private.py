"""All private names of Optuna that a search uses, as read in Optuna 5.0.0.

``tests/tune_app/sampling/test_private.py`` asserts that each exists and behaves as this module expects.
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
"""Parameters of trials as numbers: name → array of shape ``(trials,)``, in the order of the trials."""


class _SmoothEstimator(_ParzenEstimator):
    """Parzen estimator whose numeric kernels are never narrower than a share of their range."""

    least_bandwidth = 0.0

    def _calculate_numerical_distributions(self, *arguments: Any, **named: Any) -> Any:
        kernels: Any = super()._calculate_numerical_distributions(*arguments, **named)
        least = self.least_bandwidth * (kernels.adapted_high - kernels.adapted_low)
        return kernels._replace(sigma=np.maximum(kernels.sigma, least))


class CandidateTpe(TPESampler):
    """Multivariate TPE that yields many candidates instead of one draw, and learns from the trials it is given.

    Args:
        least_bandwidth: lower bound of the bandwidth of numeric kernels, as a share of the parameter's range.
        columns: returns the parameters of trials as numbers, without trials that lack some of them.
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
        """Yield draws from l(x), within each lot by decreasing l(x) / g(x).

        Args:
            trials: finished and running trials to learn from. Running ones count as bad (constant liar).
            space: parameters in the form that TPE shall see; none may have a single value.
            lots: number of lots. A lot is drawn only when the previous one is used up.
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
            for position in np.argsort(-gains, kind="stable"):
                yield {name: space[name].to_external_repr(drawn[name][position].item()) for name in space}

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> Columns:
        return self._columns(trials)


class ChildNsga(NSGAIISampler):
    """NSGA-II that makes one child of the best of the given trials, and writes nothing to the storage.

    Args:
        population: number of parents.
        mutation_eta: distribution index of polynomial mutation. A higher index keeps children nearer to the parent.
    """

    def __init__(self, *, seed: int, population: int, mutation_eta: float) -> None:
        with warnings.catch_warnings():
            # Optuna marks both classes as experimental. Its default mutation draws from the whole range, so a search
            # for configurations that can run would make no progress.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            crossover, mutation = BLXAlphaCrossover(), PolynomialMutation(mutation_eta)
        super().__init__(population_size=population, crossover=crossover, mutation=mutation, seed=seed)

    def child(
        self, study: optuna.Study, individuals: list[FrozenTrial], space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a child of the best individuals, without categorical parameters that mutate."""
        parents = self._elite_population_selection_strategy(study, individuals)
        return self._child_generation_strategy(study, space, parents)
