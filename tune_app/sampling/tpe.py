"""TPE over all parameters at once. It learns from launched trials; rejected ones only lead it out of a dead end."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, Scalar
from tune_app.sampling.draw import Draw, SamplerFacts
from tune_app.sampling.private import CandidateTpe, Columns
from tune_app.sampling.projection import Reported, gains_to_end
from tune_app.study.reporting import is_infeasible

LEAST_BANDWIDTH = 0.15
"""Lower bound of the bandwidth of numeric and ranked parameters, as a share of their range.

TPE draws where l(x) / g(x) is largest, the density of good trials over that of bad ones. Optuna's own bandwidths
shrink to range / min(100, trials + 2). Ranks of choices repeat, so the bad trials become spikes in g(x). Then
l(x) / g(x) peaks beside them, at the same few good kernels for the rest of the search. The value was chosen by
``scripts/bench/quality.py --tune`` on problems and seeds other than those it reports.
"""
STARTUP_TRIALS = 10
"""Number of launched trials that must have reported before TPE is used. Until then, draws are spread evenly."""
# Lots of draws from TPE in one call, and draws in a lot, which are yielded by decreasing l(x) / g(x).
_LOTS = 4
_LOT_SIZE = 24
# Even draws after which the proposer takes any unseen configuration.
_EVEN_DRAWS = 1_000
# Rejections in a row after which draws target the part of the space that can run, and such draws per even draw.
_LOST_AFTER = 30
_DRAWS_A_FIT = 4


class TpeDraw:
    """Draw from a multivariate TPE; a scrambled Sobol sequence until ten launched trials have reported.

    TPE does not learn from rejected samples. The rules reject such draws anyway, and each more trial would raise the
    number of trials that TPE counts as good. After thirty rejections in a row, most draws come from a TPE of the
    rejected samples, which moves to where their excess is smaller.

    A trial that ran out of memory ranks behind all that ran, by its excess. A stopped or open trial ranks among the
    complete ones by the final value projected from its last report (``projection``). An open trial without a report
    counts as bad (constant liar), so that concurrent trials differ. With several objectives, the draw is Optuna's
    multi-objective TPE, which ranks complete trials alone. Numeric choices are learnt by their rank, so batch 64 is
    informative about batch 128.

    Args:
        least_bandwidth: lower bound of the bandwidth of numeric and ranked parameters, as a share of their range.
    """

    def __init__(
        self,
        space: ActiveSpace,
        study: optuna.Study,
        distributions: Mapping[str, BaseDistribution],
        seed: int,
        least_bandwidth: float = LEAST_BANDWIDTH,
    ) -> None:
        self._space = space.space
        self._study = study
        # A parameter with a single value is not informative, and TPE does not accept it.
        self._scales = {name: _Scale(dist) for name, dist in distributions.items() if not dist.single()}
        # Values of the parameters that TPE does not draw.
        self._fixed = {name: entry.examples[0] for name, entry in self._space.entries.items()}
        self._seen_by_tpe = {name: scale.distribution for name, scale in self._scales.items()}
        self._rows: dict[int, list[float]] = {}
        self._rejected: dict[int, bool] = {}
        self._reports: dict[int, Reported | None] = {}
        self._projected: dict[int, FrozenTrial] = {}
        # Imported here, since SciPy's statistics take long to import and the other samplers do without them.
        from scipy.stats.qmc import Sobol

        self._sampler = CandidateTpe(seed=seed, least_bandwidth=least_bandwidth, columns=self._columns)
        self._points = Sobol(len(self._space), rng=seed)

    def __call__(self) -> Iterator[Params]:
        """Yield configurations, the most promising first."""
        launched = self._projected_to_their_end([trial for trial in self._trials() if not self._is_rejected(trial)])
        reported = sum(trial.state != TrialState.RUNNING for trial in launched)
        if reported >= STARTUP_TRIALS and self._scales:
            yield from self._candidates(launched, lots=_LOTS)
        yield from self._evenly()

    def _trials(self) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]

    def _projected_to_their_end(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials; incomplete ones with reports appear complete, with their projected values."""
        # With several objectives, trials report only the first one.
        if len(self._study.directions) > 1:
            return trials
        reports = [self._reports_of(trial) for trial in trials]
        gains = gains_to_end([reported for reported in reports if reported])
        if not gains:
            return trials
        return [
            self._as_complete(trial, reported, gains) if reported and reported.final is None else trial
            for trial, reported in zip(trials, reports, strict=True)
        ]

    def _reports_of(self, trial: FrozenTrial) -> Reported | None:
        number = trial.number
        if number in self._reports:
            return self._reports[number]
        reported = None
        if trial.intermediate_values:
            reported = Reported(trial.intermediate_values, trial.value if trial.state == TrialState.COMPLETE else None)
        # Cached, because every draw reads every trial, and ended trials do not change.
        if trial.state.is_finished():
            self._reports[number] = reported
        return reported

    def _as_complete(self, trial: FrozenTrial, reported: Reported, gains: Mapping[int, float]) -> FrozenTrial:
        number = trial.number
        projected = self._projected.get(number)
        if projected is None:
            projected = copy.copy(trial)
            projected.state = TrialState.COMPLETE
            if trial.state.is_finished():
                self._projected[number] = projected
        projected.value = reported.values[reported.last_step] + gains[reported.last_step]
        return projected

    def _is_rejected(self, trial: FrozenTrial) -> bool:
        number = trial.number
        is_rejected = self._rejected.get(number)
        if is_rejected is None:
            is_rejected = trial.state.is_finished() and is_infeasible(trial)
            # Cached, because every draw reads every trial, and ended trials do not change.
            if trial.state.is_finished():
                self._rejected[number] = is_rejected
        return is_rejected

    def _evenly(self) -> Iterator[Params]:
        """Yield draws spread over the space; after many rejections in a row, mostly near samples of small excess."""
        for _ in range(_EVEN_DRAWS):
            yield self._space.at(self._points.random(1)[0].tolist())
            rejected = list(itertools.takewhile(self._is_rejected, reversed(self._trials())))
            if len(rejected) >= _LOST_AFTER and self._scales:
                yield from itertools.islice(self._candidates(rejected[::-1], lots=1), _DRAWS_A_FIT)

    def _candidates(self, trials: Sequence[FrozenTrial], *, lots: int) -> Iterator[Params]:
        for drawn in self._sampler.candidates(self._study, trials, self._seen_by_tpe, lots=lots, size=_LOT_SIZE):
            values = {**self._fixed, **{name: self._scales[name].value(drawn[name]) for name in drawn}}
            yield {name: values[name] for name in self._space}

    def _columns(self, trials: Sequence[FrozenTrial]) -> Columns:
        # Cached, because every draw reads every trial, and parameters never change. A trial that another program wrote
        # may lack some parameters. Like Optuna, leave it out.
        rows = []
        for trial in trials:
            number = trial.number
            if number not in self._rows and self._scales.keys() <= trial.params.keys():
                self._rows[number] = [scale.number(trial.params[name]) for name, scale in self._scales.items()]
            if number in self._rows:
                rows.append(self._rows[number])
        table = np.array(rows, dtype=float).reshape(len(rows), len(self._scales))
        return {name: table[:, column] for column, name in enumerate(self._scales)}


class _Scale:
    """Parameter in the form that TPE sees: as the study stores it, but with numeric choices replaced by their rank."""

    def __init__(self, stored: BaseDistribution) -> None:
        self.distribution = stored
        self._ranked: list[Scalar] | None = None
        if isinstance(stored, CategoricalDistribution) and _are_numbers(stored.choices):
            self._ranked = sorted(choice for choice in stored.choices if isinstance(choice, int | float))
            self.distribution = IntDistribution(0, len(self._ranked) - 1)

    def number(self, value: Any) -> float:
        """Return the number by which TPE represents a trial's value."""
        return self.distribution.to_internal_repr(value if self._ranked is None else self._ranked.index(value))

    def value(self, drawn: Any) -> Scalar:
        """Return the space's value for a value that TPE drew."""
        value: Scalar = drawn if self._ranked is None else self._ranked[drawn]
        return value


def _are_numbers(choices: Sequence[Any]) -> bool:
    return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)


def build(facts: SamplerFacts) -> Draw:
    """Build the draw of the sampler ``tpe``, whose entry in ``tune_app.samplers`` names this function."""
    floor = {} if facts.least_bandwidth is None else {"least_bandwidth": facts.least_bandwidth}
    return TpeDraw(facts.space, facts.study, facts.distributions, facts.seed, **floor)
