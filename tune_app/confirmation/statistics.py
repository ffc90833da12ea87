"""Statistics of a few values per candidate, paired by seed. Pure functions; every value is better the higher it is."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tune_app.study.confirmation import Interval, Paired

LEVEL = 0.90
"""Level of every interval."""

FEWEST_TO_FLIP = 5
"""Fewest pairs for a sign-flip test: with four, its least one-sided p value is 1/16, above any usual threshold."""

_RESAMPLES = 9_999
_DRAWS = 20_000
# Pairs up to which every pattern of signs is counted.
_MOST_TO_LIST = 14

Floats = NDArray[np.float64]

Values = Mapping[int, float]
"""Values of one candidate by seed."""


def compare(first: Values, second: Values) -> Paired:
    """Compare two candidates by an exact sign-flip test, or by Student's paired test if there are fewer than 5 pairs.

    Raises:
        ValueError: they share no seed.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError("the candidates share no seed")
    differences = np.array([first[seed] - second[seed] for seed in shared])
    pairs = len(shared)
    error = float(differences.std(ddof=1)) / math.sqrt(pairs) if pairs > 1 else None
    is_flipped = pairs >= FEWEST_TO_FLIP
    p = sign_flip_p(differences) if is_flipped else _student_p(differences)
    return Paired(float(differences.mean()), error, p, "sign-flip" if is_flipped else "t", pairs)


def sign_flip_p(differences: Floats) -> float:
    """Return the one-sided p value of the sign-flip test that the differences (n,) lie symmetrically around zero.

    It is the share of all 2^n patterns of signs whose mean is at least the observed one. Above 14 pairs a sample of the
    patterns, the observed one included, stands for all. Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    count = len(differences)
    if count <= _MOST_TO_LIST:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))
    else:
        drawn = np.random.default_rng(0).choice((1.0, -1.0), size=(_RESAMPLES, count))
        signs = np.vstack([np.ones(count), drawn])
    sums = signs @ np.abs(differences)
    # Rounding must not separate patterns with equal sums.
    return float(np.mean(sums >= differences.sum() - 1e-12))


def _student_p(differences: Floats) -> float:
    if len(differences) < 2:
        return 0.5
    if np.ptp(differences) == 0:
        # Without any spread the test has no scale.
        return 0.5 if differences[0] == 0 else (0.0 if differences[0] > 0 else 1.0)
    return float(stats.ttest_1samp(differences, 0.0, alternative="greater").pvalue)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the BCa bootstrap interval of a mean (n,); None for fewer than two values.

    Source: Efron, "Better Bootstrap Confidence Intervals", JASA 1987. With few values it is narrower than its level
    says; ``expected_interval`` is not.
    """
    if len(values) < 2:
        return None
    if max(values) == min(values):
        return values[0], values[0]
    found = stats.bootstrap(
        (np.array(values),),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def best_probabilities(candidates: Sequence[Values]) -> list[float]:
    """Return each candidate's probability of having the highest true mean.

    The values are modelled as a candidate's effect, a seed's effect, and normal noise of one variance (a randomised
    block design). The posterior under the usual flat prior has variances drawn by inverse chi-squared and means by a
    normal. Source: Gelman et al., Bayesian Data Analysis, 3rd edition, section 8.3 and chapter 14. Candidates with
    fewer seeds, which a race dropped, have wider posteriors.
    """
    if len(candidates) == 1:
        return [1.0]
    effects, variance, freedom = block_design(candidates)
    if variance == 0 or freedom < 1:
        best = np.isclose(effects, effects.max())
        return [float(share) for share in best / best.sum()]
    rng = np.random.default_rng(0)
    drawn_variance = freedom * variance / rng.chisquare(freedom, size=(_DRAWS, 1))
    counts = np.array([len(values) for values in candidates])
    means = effects + rng.standard_normal((_DRAWS, len(candidates))) * np.sqrt(drawn_variance / counts)
    wins = np.bincount(means.argmax(axis=1), minlength=len(candidates))
    return [float(count) / _DRAWS for count in wins]


def block_design(candidates: Sequence[Values]) -> tuple[Floats, float, int]:
    """Return the candidates' effects (k,) at the mean seed, the residual variance and its degrees of freedom."""
    seeds = sorted({seed for values in candidates for seed in values})
    place = {seed: number for number, seed in enumerate(seeds)}
    cells = [(who, place[seed], value) for who, values in enumerate(candidates) for seed, value in values.items()]
    design = np.zeros((len(cells), len(candidates) + len(seeds) - 1))
    for row, (who, seed, _) in enumerate(cells):
        design[row, who] = 1.0
        if seed:
            design[row, len(candidates) + seed - 1] = 1.0
    observed = np.array([value for _, _, value in cells])
    solution, *_ = np.linalg.lstsq(design, observed, rcond=None)
    residual = observed - design @ solution
    freedom = len(cells) - int(np.linalg.matrix_rank(design))
    of_seeds = np.concatenate([[0.0], solution[len(candidates) :]]).mean()
    variance = float(residual @ residual) / freedom if freedom else 0.0
    return solution[: len(candidates)] + of_seeds, variance, freedom


def shrunk_value(winner: int, means: Mapping[int, float], variance_of_mean: float) -> float:
    """Return the winner's mean, shrunk towards the mean of all candidates against the winner's curse.

    The true means are modelled as normal around a common one. Their variance is the observed one less that of the
    noise, so that candidates which differ by noise alone shrink all the way. Source: empirical Bayes by the method of
    moments, Morris, "Parametric Empirical Bayes Inference", JASA 1983, section 1; a posterior mean needs no further
    correction for selection (Senn, "A Note Concerning a Selection Paradox", The American Statistician, 2008).

    Args:
        means: mean value by candidate, of the candidates that stayed in the race to its end.
        variance_of_mean: variance of the noise that distinguishes the means, without effects of a seed on all of them.
    """
    if len(means) < 2:
        return means[winner]
    centre = math.fsum(means.values()) / len(means)
    squares = math.fsum((mean - centre) ** 2 for mean in means.values())
    if squares == 0:
        return means[winner]
    weight = max(0.0, 1 - (len(means) - 1) * variance_of_mean / squares)
    return centre + weight * (means[winner] - centre)
