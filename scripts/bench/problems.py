"""Closed-form search problems shaped like fine-tuning, for measuring samplers and early stopping without training.

A problem has Headroom's own setting names, a memory budget and the needs of ``toy.py``, a final score and a learning
curve. Its weights are drawn from a problem seed: tune a sampler on some seeds and report on others. The score of a
configuration is

    baseline + gap * exp(-loss / gap) * (1 - collapse)

``gap`` is the distance of the model's best score from the baseline, which is that of a classifier of one class.
``loss`` sums the losses of all settings. ``collapse`` rises from 0 to 1 where the learning rate passes the model's
limit.

- The best learning rate falls with the model's size and rises with the effective batch.
- Larger models score higher, and most of their configurations exceed the budget.
- Longer inputs score higher, with diminishing returns.
- Interactions tie settings to each other; ruggedness gives every model optima of its own.

A curve rises towards the final score and saturates. High rates and small batches make it faster, large models slower.
Its noise is largest early. Noise is drawn from a hash of its arguments: equal for equal arguments.

Three problems have names: ``smooth`` without interactions, ``interacting`` and ``rugged``.
``python scripts/bench/problems.py`` prints what a search meets in them.
"""

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from common import print_json, print_table
from toy import MODELS, need_gib, noise, relative_size

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Choices, Entry, FloatRange, Params, Scalar, Space, parse_space

ENTRIES: dict[str, dict[str, Any]] = {
    "model.name": {"choices": list(MODELS)},
    "train.batch_size": {"choices": [4, 8, 16, 32, 64, 128]},
    "train.grad_accum": {"choices": [1, 2, 4]},
    "tok.max_length": {"choices": [128, 192, 256, 384, 512]},
    "optim.lr": {"low": 5e-6, "high": 3e-4, "log": True},
    "optim.weight_decay": {"low": 1e-4, "high": 0.2, "log": True},
    "optim.layer_decay": {"choices": [0.8, 0.85, 0.9, 0.95, 1.0]},
    "schedule.name": {"choices": ["linear", "cosine", "polynomial", "constant"]},
    "schedule.warmup_ratio": {"choices": [0.0, 0.06, 0.1, 0.2]},
    "head.pooling": {"choices": ["cls", "mean", "max", "attention"]},
    "head.dropout": {"choices": [0.0, 0.1, 0.2, 0.3, 0.4]},
    "loss.name": {"choices": ["cross_entropy", "label_smoothing", "focal"]},
    "loss.gamma": {"choices": [1.0, 2.0, 3.0, 5.0]},
    "loss.class_weighting": {"choices": ["none", "inverse", "effective_number"]},
}
SHAPE = ("model.name", "train.batch_size", "tok.max_length")
"""Parameters that set the need of a configuration."""
RANKED = (
    "optim.weight_decay",
    "optim.layer_decay",
    "schedule.warmup_ratio",
    "head.dropout",
    "loss.gamma",
    "train.batch_size",
)
"""Parameters with a quadratic loss around an optimum. The batch size means the effective batch."""
UNRANKED = ("schedule.name", "head.pooling", "loss.name", "loss.class_weighting")
PAIRS = (
    ("optim.layer_decay", "head.pooling"),
    ("schedule.name", "schedule.warmup_ratio"),
    ("loss.name", "loss.class_weighting"),
    ("head.dropout", "loss.name"),
)
"""Parameters whose losses depend on each other where a problem has interactions."""

_NORMAL = statistics.NormalDist()
_USUAL_BATCH = 32
_RANDOM, _CURVES = 10_000, 2000
_SEEDS, _TRIALS = 40, 100
_EPOCHS, _PER_EPOCH = 8, 4


@dataclass(frozen=True)
class Character:
    """Strength of two features of a problem, 0 for none and 1 for strong.

    Attributes:
        interaction: dependence of one setting's optimum on another setting or on the model's size.
        ruggedness: dependence of every optimum on the single model, whatever its size.
    """

    interaction: float
    ruggedness: float


@dataclass(frozen=True)
class RateResponse:
    """Loss by learning rate, in natural logarithms of the rate.

    Attributes:
        best: best rate of each model at an effective batch of 32; it falls with the model's size.
        by_batch: rise of the best rate with every doubling of the effective batch.
        by_decay: rise of the best rate from layer decay 1.0 to the strongest.
        curvature: loss at a distance of 1 below the best rate.
        steepness: ratio of the loss above the best rate to the loss below.
        margin: distance of the limit, where half of the score is lost, from the best rate.
        by_warmup: rise of the limit from no warm-up to the longest.
        width: distance over which a run collapses.
    """

    best: Mapping[str, float]
    by_batch: float
    by_decay: float
    curvature: float
    steepness: float
    margin: float
    by_warmup: float
    width: float


@dataclass(frozen=True)
class Ranked:
    """Quadratic loss of a ranked parameter, whose values lie between 0 and 1.

    Attributes:
        weight: loss at a distance of 0.5 from the optimum.
        optimum: best value by model.
    """

    weight: float
    optimum: Mapping[str, float]

    def loss(self, model: str, position: float) -> float:
        return 4 * self.weight * (position - self.optimum[model]) ** 2


@dataclass(frozen=True)
class CurveShape:
    """Speed and early noise of learning curves.

    Attributes:
        epochs: time constant of a middle-sized model at its best rate and an effective batch of 32.
        by_rate: exponent of the rate, relative to the best one, in the speed.
        by_batch: exponent of the effective batch in the time constant.
        by_model: factor of the time constant.
        stretch: exponent of time in the fall of the distance to the final score; below 1 the end of the rise is slow.
        early_noise: standard deviation that a report at the start has beside that of the final score.
    """

    epochs: float
    by_rate: float
    by_batch: float
    by_model: Mapping[str, float]
    stretch: float
    early_noise: float


@dataclass(frozen=True)
class Response:
    """All drawn weights of a problem. Scores and losses lie between 0 and 1: one point is 0.01.

    Attributes:
        baseline: score of a classifier of one class.
        top: best score by model.
        noise: standard deviation of the final score over seeds.
        short_input: loss of the shortest input.
        length_scale: tokens over which that loss falls to a third.
        rate: loss by learning rate.
        ranked: losses of ranked parameters.
        unranked: losses by parameter, then by model and value.
        pairs: losses by two parameters, then by their values.
        curve: speed and early noise of learning curves.
    """

    baseline: float
    top: Mapping[str, float]
    noise: float
    short_input: float
    length_scale: float
    rate: RateResponse
    ranked: Mapping[str, Ranked]
    unranked: Mapping[str, Mapping[tuple[str, Scalar], float]]
    pairs: Mapping[tuple[str, str], Mapping[tuple[Scalar, Scalar], float]]
    curve: CurveShape


@dataclass(frozen=True)
class Best:
    """Best configuration that fits, by its true value.

    Attributes:
        error: difference between two independent searches, an estimate of the distance to the true optimum.
    """

    params: Params
    value: float
    error: float


@dataclass(frozen=True)
class FineTuning:
    """A problem whose weights come from ``problem_seed``; without a ``character`` that is drawn as well."""

    problem_seed: int
    character: Character | None = None

    @cached_property
    def space(self) -> Space:
        return parse_space(ENTRIES)

    @cached_property
    def response(self) -> Response:
        return draw_response(random.Random(f"response:{self.problem_seed}"), self.space, self.character)

    @cached_property
    def budget_gib(self) -> float:
        """Return a budget between two neighbouring needs, which a drawn share of the space fits."""
        needs = sorted(need_gib(shape) for shape in self._shapes())
        fitting = round(len(needs) * random.Random(f"budget:{self.problem_seed}").uniform(0.45, 0.6))
        return (needs[fitting - 1] + needs[fitting]) / 2

    @cached_property
    def share_that_fits(self) -> float:
        """Return the share of the space that fits, which is exact: need depends on the shape only."""
        fitting = [self.fits(shape) for shape in self._shapes()]
        return sum(fitting) / len(fitting)

    def need_gib(self, params: Mapping[str, Scalar]) -> float:
        return need_gib(params)

    def fits(self, params: Mapping[str, Scalar]) -> bool:
        return self.need_gib(params) <= self.budget_gib

    def true_value(self, params: Mapping[str, Scalar]) -> float:
        """Return the final score without noise."""
        model = str(params["model.name"])
        gap = self.response.top[model] - self.response.baseline
        above = self._above_best_rate(model, params)
        loss = self._rate_loss(above) + self._loss(model, params)
        learnt = math.exp(-loss / gap) * (1 - self._collapse(above, params))
        return _score(self.response.baseline + gap * learnt)

    def value(self, params: Mapping[str, Scalar], seed: int) -> float:
        """Return the final score of a run with ``seed``, between 0 and 1, higher is better."""
        return _score(self.true_value(params) + self.response.noise * self._drawn(params, seed, "end"))

    def curve(self, params: Mapping[str, Scalar], seed: int, epochs: int, per_epoch: int) -> list[float]:
        """Return the score of every report; the last is ``value``, however many epochs there are.

        Raises:
            ValueError: there is no report.
        """
        if epochs < 1 or per_epoch < 1:
            raise ValueError(f"epochs {epochs} and per_epoch {per_epoch} must both be 1 or more")
        elapsed = [report / per_epoch for report in range(1, epochs * per_epoch)]
        levels = self._levels(params, elapsed, epochs)
        end = self._drawn(params, seed, "end")
        noises = [self._noise_at(self._drawn(params, seed, f"{time:.6f}"), end, time, epochs) for time in elapsed]
        reports = [_score(level + drawn) for level, drawn in zip(levels, noises, strict=True)]
        return [*reports, self.value(params, seed)]

    def true_curve(self, params: Mapping[str, Scalar], epochs: int, per_epoch: int) -> list[float]:
        """Return the score of every report without noise; the last is ``true_value``."""
        elapsed = [report / per_epoch for report in range(1, epochs * per_epoch)]
        return [*map(_score, self._levels(params, elapsed, epochs)), self.true_value(params)]

    def sample_fitting(self, rng: random.Random) -> Params:
        """Draw a configuration that fits."""
        while True:
            params = self._active.sample(rng)
            if self.fits(params):
                return params

    def best_there_is(self) -> float:
        """Return the best true value of all configurations that fit."""
        return self.best.value

    @cached_property
    def best(self) -> Best:
        """Return the better of two independent searches: see ``_search``."""
        found = [_search(self, random.Random(f"best:{start}")) for start in range(2)]
        values = [self.true_value(params) for params in found]
        best = found[values.index(max(values))]
        return Best(self._active.normalised(best), max(values), max(values) - min(values))

    @cached_property
    def _active(self) -> ActiveSpace:
        return ActiveSpace(self.space)

    def _shapes(self) -> Iterator[Params]:
        return configurations({name: self.space.entries[name] for name in SHAPE})

    def _drawn(self, params: Mapping[str, Scalar], seed: int, when: str) -> float:
        """Draw from the standard normal distribution; a value that no run reads changes nothing."""
        drawn = noise(f"{self.problem_seed}:{self.character}:{seed}:{when}:{self._active.key(params)}")
        return _NORMAL.inv_cdf(min(max(drawn, 1e-12), 1 - 1e-12))

    def _loss(self, model: str, params: Mapping[str, Scalar]) -> float:
        """Return the loss of all settings but the rate."""
        response = self.response
        tokens = int(params["tok.max_length"]) - 128
        losses = [response.short_input * math.exp(-tokens / response.length_scale)]
        for name, ranked in response.ranked.items():
            if name != "loss.gamma" or params["loss.name"] == "focal":
                losses.append(ranked.loss(model, self._position(name, params)))
        losses += [by_value[model, params[name]] for name, by_value in response.unranked.items()]
        losses += [by_values[params[one], params[other]] for (one, other), by_values in response.pairs.items()]
        return sum(losses)

    def _position(self, name: str, params: Mapping[str, Scalar]) -> float:
        if name == "train.batch_size":
            # 4 is 0, the largest effective batch of 512 is 1.
            return math.log2(effective_batch(params) / 4) / 7
        return position(self.space.entries[name], params[name])

    def _rate_loss(self, above: float) -> float:
        rate = self.response.rate
        return rate.curvature * above**2 * (rate.steepness if above > 0 else 1)

    def _collapse(self, above: float, params: Mapping[str, Scalar]) -> float:
        """Return the share of the score above the baseline that too large a rate costs."""
        rate = self.response.rate
        limit = rate.margin + rate.by_warmup * self._position("schedule.warmup_ratio", params)
        return 1 / (1 + math.exp(-(above - limit) / rate.width))

    def _above_best_rate(self, model: str, params: Mapping[str, Scalar]) -> float:
        """Return the distance of the rate from the best one, in natural logarithms."""
        rate = self.response.rate
        best = rate.best[model] + rate.by_batch * math.log2(effective_batch(params) / _USUAL_BATCH)
        best += rate.by_decay * (1 - self._position("optim.layer_decay", params))
        return math.log(float(params["optim.lr"])) - best

    def _levels(self, params: Mapping[str, Scalar], elapsed: Sequence[float], epochs: int) -> list[float]:
        """Return the curve without noise at some times, counted in epochs."""
        baseline, constant = self.response.baseline, self._time_constant(params)
        stretch = self.response.curve.stretch
        rises = [-math.expm1(-math.pow(time / constant, stretch)) for time in (*elapsed, epochs)]
        height = (self.true_value(params) - baseline) / rises[-1]
        return [baseline + height * rise for rise in rises[:-1]]

    def _time_constant(self, params: Mapping[str, Scalar]) -> float:
        """Return the epochs after which a curve has risen by two thirds of its height."""
        model, curve = str(params["model.name"]), self.response.curve
        by_rate = math.exp(-curve.by_rate * self._above_best_rate(model, params))
        by_batch = math.pow(effective_batch(params) / _USUAL_BATCH, curve.by_batch)
        return curve.epochs * curve.by_model[model] * by_rate * by_batch

    def _noise_at(self, own: float, end: float, time: float, epochs: int) -> float:
        """Mix a report's own noise with that of the final score, whose part grows with time."""
        done = time / epochs
        size = self.response.noise + self.response.curve.early_noise * math.exp(-time) * (1 - done)
        return size * (done * end + math.sqrt(1 - done**2) * own)


NAMED: dict[str, FineTuning] = {
    "smooth": FineTuning(101, Character(interaction=0.0, ruggedness=0.0)),
    "interacting": FineTuning(104, Character(interaction=1.0, ruggedness=0.2)),
    "rugged": FineTuning(105, Character(interaction=0.5, ruggedness=1.0)),
}


def draw_response(rng: random.Random, space: Space, character: Character | None = None) -> Response:
    """Draw the weights of a problem, and its character where none is given."""
    drawn = Character(rng.uniform(0, 1), rng.uniform(0, 1))
    character = character or drawn
    return Response(
        baseline=rng.uniform(0.40, 0.48),
        top=_draw_tops(rng),
        noise=rng.uniform(0.004, 0.009),
        short_input=rng.uniform(0.01, 0.03),
        length_scale=rng.uniform(80, 200),
        rate=_draw_rate(rng, character),
        ranked={name: _draw_ranked(rng, character) for name in RANKED},
        unranked={name: _draw_unranked(rng, space.entries[name], character) for name in UNRANKED},
        pairs={
            (one, other): _draw_pair(rng, space.entries[one], space.entries[other], character) for one, other in PAIRS
        },
        curve=_draw_curve(rng),
    )


def _draw_tops(rng: random.Random) -> dict[str, float]:
    """Draw the best score of every model: it rises with size, but not strictly."""
    smallest, rise = rng.uniform(0.78, 0.86), rng.uniform(0.015, 0.04)
    return {model: smallest + rise * relative_size(model) + rng.gauss(0, 0.004) for model in MODELS}


def _draw_rate(rng: random.Random, character: Character) -> RateResponse:
    middle, by_size = rng.uniform(math.log(2.5e-5), math.log(6e-5)), rng.uniform(0.8, 1.6)
    return RateResponse(
        best={
            model: middle - by_size * (relative_size(model) - 0.5) + rng.gauss(0, 0.5) * character.ruggedness
            for model in MODELS
        },
        by_batch=rng.uniform(0.15, 0.35),
        by_decay=rng.uniform(0.3, 0.8) * character.interaction,
        curvature=rng.uniform(0.007, 0.012),
        steepness=rng.uniform(1.5, 2.5),
        margin=rng.uniform(1.2, 1.8),
        by_warmup=rng.uniform(0.2, 0.6),
        width=rng.uniform(0.12, 0.25),
    )


def _draw_ranked(rng: random.Random, character: Character) -> Ranked:
    weight, middle = _weight(rng), rng.uniform(0.1, 0.9)
    by_size = rng.uniform(-0.6, 0.6) * character.interaction
    shifts = {model: rng.gauss(0, 0.3) * character.ruggedness for model in MODELS}
    return Ranked(
        weight,
        {model: middle + by_size * (relative_size(model) - 0.5) + shift for model, shift in shifts.items()},
    )


def _draw_unranked(rng: random.Random, entry: Entry, character: Character) -> dict[tuple[str, Scalar], float]:
    """Draw the loss of every value, 0 for one of them, and its change by model."""
    values, weight = _values(entry), 2 * _weight(rng)
    best = rng.choice(values)
    common = {value: 0.0 if value == best else weight * rng.random() for value in values}
    return {
        (model, value): loss + rng.gauss(0, 0.002) * character.ruggedness
        for model in MODELS
        for value, loss in common.items()
    }


def _draw_pair(
    rng: random.Random, one: Entry, other: Entry, character: Character
) -> dict[tuple[Scalar, Scalar], float]:
    pairs = itertools.product(_values(one), _values(other))
    return {pair: rng.gauss(0, 0.002) * character.interaction for pair in pairs}


def _draw_curve(rng: random.Random) -> CurveShape:
    slower = rng.uniform(0.2, 0.6)
    return CurveShape(
        epochs=rng.uniform(0.26, 0.34),
        by_rate=rng.uniform(0.2, 0.3),
        by_batch=rng.uniform(0.2, 0.3),
        by_model={model: math.exp(slower * (relative_size(model) - 0.5) + rng.gauss(0, 0.1)) for model in MODELS},
        stretch=rng.uniform(0.52, 0.62),
        early_noise=rng.uniform(0.045, 0.06),
    )


def _weight(rng: random.Random) -> float:
    """Draw the weight of a setting; few settings have a large one."""
    return math.exp(rng.uniform(math.log(0.0006), math.log(0.005)))


def effective_batch(params: Mapping[str, Scalar]) -> int:
    return int(params["train.batch_size"]) * int(params["train.grad_accum"])


def position(entry: Entry, value: Scalar) -> float:
    """Return the place of a value in its entry, from 0 to 1."""
    if isinstance(entry, Choices):
        return entry.choices.index(value) / (entry.size - 1)
    low, high, at = (
        math.log(number) if isinstance(entry, FloatRange) and entry.log else number
        for number in (entry.low, entry.high, float(value))
    )
    return (at - low) / (high - low)


def configurations(entries: Mapping[str, Entry]) -> Iterator[Params]:
    """Yield every combination of the values of some choices."""
    for values in itertools.product(*map(_values, entries.values())):
        yield dict(zip(entries, values, strict=True))


def _values(entry: Entry) -> tuple[Scalar, ...]:
    assert isinstance(entry, Choices), "only choices can be listed"
    return entry.choices


def _score(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _search(problem: FineTuning, rng: random.Random, promising: int = 8) -> Params:
    """Search for the best configuration that fits.

    One setting at a time is improved from a random start in every shape that fits. The most promising ends are improved
    by two settings at a time, the shape included, until no change of two settings improves them.
    """
    others = [name for name in problem.space if name not in SHAPE]
    starts = [problem.space.sample(rng) | shape for shape in problem._shapes() if problem.fits(shape)]
    ends = sorted((_ascend(problem, start, others, 1) for start in starts), key=problem.true_value)
    finalists = [_ascend(problem, end, list(problem.space), 2) for end in ends[-promising:]]
    return max(finalists, key=problem.true_value)


def _ascend(problem: FineTuning, params: Params, names: Sequence[str], at_once: int) -> Params:
    """Improve ``at_once`` settings at a time until none of their changes improves the true value."""
    improved = True
    while improved:
        improved = False
        for changed in itertools.combinations(names, at_once):
            nearby = [values for values in _nearby(problem, params, changed) if problem.fits(values)]
            best = max(nearby, key=problem.true_value)
            if problem.true_value(best) > problem.true_value(params) + 1e-7:
                params, improved = best, True
    return params


def _nearby(problem: FineTuning, params: Params, changed: Collection[str]) -> Iterator[Params]:
    """Yield the configuration with every combination of some settings' values."""
    values = [_candidates(problem.space.entries[name], float_at=params[name]) for name in changed]
    for combination in itertools.product(*values):
        yield params | dict(zip(changed, combination, strict=True))


def _candidates(entry: Entry, float_at: Scalar) -> Sequence[Scalar]:
    """Return all choices, or of a range a coarse grid and finer steps around the present value."""
    if isinstance(entry, Choices):
        return _values(entry)
    assert isinstance(entry, FloatRange), "the spaces here have choices and ranges of floats"
    assert entry.log, "the ranges here are logarithmic"
    ratio = entry.high / entry.low
    grid = [entry.low * ratio ** (step / 12) for step in range(13)]
    finer = [float(float_at) * ratio**step for step in (-0.03, -0.01, -0.003, 0, 0.003, 0.01, 0.03)]
    return [min(max(value, entry.low), entry.high) for value in (*grid, *finer)]


@dataclass(frozen=True)
class Figures:
    """Facts that a search of a problem meets. Random configurations are those that fit; scores and shares in percent.

    Attributes:
        fits: share of the space that fits.
        best: best true value.
        error: error of the search for it.
        noise: standard deviation of the final score over seeds.
        quantiles: true values of random configurations, by percentile.
        correlations: rank correlation of a report with the last, over random curves, by time in epochs.
        random_best: mean and standard deviation of the best final score of 100 random configurations.
        random_true: the same for the true value of the configuration with that score.
        within: share of random configurations within some points of the best, by points.
    """

    fits: float
    best: float
    error: float
    noise: float
    quantiles: dict[int, float]
    correlations: dict[float, float]
    random_best: tuple[float, float]
    random_true: tuple[float, float]
    within: dict[float, float]


def figures_of(problem: FineTuning) -> Figures:
    drawn = random_configurations(problem, _RANDOM, "figures")
    truths = [problem.true_value(params) for params in drawn]
    random_best, random_true = best_of_random(problem)
    return Figures(
        fits=100 * problem.share_that_fits,
        best=100 * problem.best.value,
        error=100 * problem.best.error,
        noise=100 * problem.response.noise,
        quantiles=_quantiles(truths),
        correlations=correlations_with_end(problem, drawn[:_CURVES]),
        random_best=random_best,
        random_true=random_true,
        within={points: _share_within(points, problem.best.value, truths) for points in (0.5, 1.0, 2.0)},
    )


def random_configurations(problem: FineTuning, count: int, seed: str) -> list[Params]:
    """Draw configurations that fit."""
    rng = random.Random(seed)
    return [problem.sample_fitting(rng) for _ in range(count)]


def correlations_with_end(problem: FineTuning, drawn: Sequence[Params]) -> dict[float, float]:
    """Return the rank correlation of early reports with the last of 8 epochs, by time in epochs."""
    curves = [problem.curve(params, seed, _EPOCHS, _PER_EPOCH) for seed, params in enumerate(drawn)]
    last = _ranks([curve[-1] for curve in curves])
    return {
        time: statistics.correlation(_ranks([curve[round(time * _PER_EPOCH) - 1] for curve in curves]), last)
        for time in (0.25, 0.5, 1.0, 2.0, 4.0)
    }


def best_of_random(problem: FineTuning) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return mean and standard deviation of the best score of 100 random configurations, and of its true value."""
    scores, truths = [], []
    for seed in range(_SEEDS):
        drawn = random_configurations(problem, _TRIALS, f"random:{seed}")
        score, index = max((problem.value(params, seed), index) for index, params in enumerate(drawn))
        scores.append(100 * score)
        truths.append(100 * problem.true_value(drawn[index]))
    return (statistics.mean(scores), statistics.stdev(scores)), (statistics.mean(truths), statistics.stdev(truths))


def _quantiles(truths: Sequence[float]) -> dict[int, float]:
    cuts = statistics.quantiles(truths, n=100)
    return {percentile: 100 * cuts[percentile - 1] for percentile in (1, 5, 25, 50, 75, 95, 99)}


def _share_within(points: float, best: float, truths: Sequence[float]) -> float:
    return 100 * sum(best - truth <= points / 100 for truth in truths) / len(truths)


def _ranks(values: Sequence[float]) -> list[int]:
    """Return the rank of every value; equal ones, which noise makes rare, rank by their order."""
    ranks = [0] * len(values)
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        ranks[index] = rank
    return ranks


def main() -> None:
    """Print the facts that a search of every named problem meets."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = {name: figures_of(problem) for name, problem in NAMED.items()}
    for name, problem in NAMED.items():
        print(f"{name}: {problem.space.describe()}; budget {problem.budget_gib:.2f} GiB")
        print(f"  fit: {_shares_by_model(problem)}")
        print(f"  best: {_shown(problem.best.params)}")
    print(
        f"\nscores and shares in percent, of random configurations that fit: {_RANDOM}, of which {_CURVES} have curves"
        f" of {_EPOCHS} epochs; best of {_TRIALS} for each of {_SEEDS} seeds"
    )
    columns = [_column(own) for own in found.values()]
    print_table(["", *found], [[label, *(column[label] for column in columns)] for label in columns[0]])
    print_json({"bench": "problems", "figures": {name: vars(own) for name, own in found.items()}})


def _shares_by_model(problem: FineTuning) -> str:
    entries = {name: problem.space.entries[name] for name in SHAPE[1:]}
    shares = {
        model: statistics.mean(problem.fits({"model.name": model, **shape}) for shape in configurations(entries))
        for model in MODELS
    }
    return ", ".join(f"{model} {share:.0%}" for model, share in shares.items())


def _shown(params: Params) -> str:
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def _column(figures: Figures) -> dict[str, str]:
    return {
        "share that fits": f"{figures.fits:.0f} %",
        "noise, sd": f"{figures.noise:.2f}",
        "best there is": f"{figures.best:.2f}",
        "  its error": f"{figures.error:.3f}",
        "best of 100 random, score": "{:.2f} ± {:.2f}".format(*figures.random_best),
        "  its true value": "{:.2f} ± {:.2f}".format(*figures.random_true),
        **{f"random, percentile {at}": f"{value:.1f}" for at, value in figures.quantiles.items()},
        **{f"within {points} of the best": f"{share:.2f} %" for points, share in figures.within.items()},
        **{f"rank correlation, epoch {time:g}": f"{value:.2f}" for time, value in figures.correlations.items()},
    }


if __name__ == "__main__":
    main()
