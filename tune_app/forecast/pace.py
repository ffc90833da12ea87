"""Pace of a model on this machine, fitted to the recorded times of trials and of timed steps."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from trainables.models.sizes import architecture
from trainables.planning.ledger import Circumstances
from trainables.planning.timings import PaceLedger, Setup, Timing, Work
from trainables.training.split import PASS_COST_TOKENS

# Fewer timings than this say nothing about their own spread.
_FEW = 6
_SPREAD = 0.15
_DRIFT_OF_SCALED = 0.5
# Standard deviation of the common error of a pace that a single timing tells.
_DRIFT_OF_ONE = 0.4
_OF_A_SEARCH = 8
"""Timings in a row that are taken to be of one search."""
# After so many timings an older one counts half, because the load of a machine changes.
_HALF_LIFE = 30.0
# Seconds from which a timing counts in full: shorter ones are noisier.
_WHOLE_S = 1.0
# Where all timings have passes of one size, nothing tells the cost of a pass from that of its tokens. They are then
# shared out as if a pass and a step cost as much as so many tokens.
_PRIOR = 0.3
_HIDDEN, _LAYERS = 768, 12
_CHECKPOINTED = 4 / 3
"""Work of a pass that recomputes its activations, over that of one that does not: another forward pass of three."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a model's training.

    Attributes:
        train: seconds per optimizer step, pass and token; a token's includes its share of attention.
        evaluation: seconds per evaluation, pass and token.
        start_s: seconds to load and to plan memory.
        save_s: seconds to write a checkpoint.
        saved_bytes: size of a checkpoint.
        spread: standard deviation of the logarithm of measured over fitted seconds, from one timing to the next.
        drift: the same over all trials of a search: because the machine's load changes, and for want of timings.
    """

    train: tuple[float, float, float]
    evaluation: tuple[float, float, float]
    start_s: float
    save_s: float
    saved_bytes: float
    spread: float
    drift: float

    def train_s(self, work: Work, setup: Setup) -> float:
        return _dot(self.train, _features(work, setup, trains=True))

    def evaluation_s(self, work: Work, setup: Setup) -> float:
        return _dot(self.evaluation, _features(work, setup, trains=False))

    def scaled(self, factor: float) -> "Pace":
        """Return the pace of a model with so many times the weights."""
        train, evaluation = (
            (step * factor, one_pass, token * factor) for step, one_pass, token in (self.train, self.evaluation)
        )
        return Pace(
            train,
            evaluation,
            self.start_s,
            self.save_s * factor,
            self.saved_bytes * factor,
            self.spread,
            _DRIFT_OF_SCALED,
        )


class Paces:
    """Paces of the models that the machine's record knows.

    Args:
        timings: every timing, the oldest first.
    """

    def __init__(self, timings: Iterable[Timing]) -> None:
        self._timings: dict[_Key, list[Timing]] = {}
        for timing in timings:
            self._timings.setdefault(_key(timing.setup), []).append(timing)
        self._fitted: dict[_Key, Pace] = {}

    @classmethod
    def of_machine(cls, ledger: PaceLedger) -> "Paces":
        return cls(ledger.timings())

    def knows(self, setup: Setup) -> bool:
        """Return whether the record holds the models on this device, with these threads and as many trials at once."""
        return any(timing.evaluation.calls for timing in self._timings.get(_key(setup), []))

    def pace(self, setup: Setup) -> Pace | None:
        """Return the pace of the models; None if the record holds no model under these circumstances.

        The pace of models that the record does not hold is that of the model nearest in size, in proportion.
        """
        if self.knows(setup):
            return self._fitted_to(_key(setup))
        known = {key for key, timings in self._timings.items() if self.knows(timings[0].setup)}
        alike = [key for key in known if replace(key, models=()) == replace(_key(setup), models=())]
        if not alike:
            return None
        size = _size(setup.models)
        nearest = min(alike, key=lambda key: abs(math.log(_size(key.models) / size)))
        return self._fitted_to(nearest).scaled(size / _size(nearest.models))

    def _fitted_to(self, key: "_Key") -> Pace:
        if key not in self._fitted:
            self._fitted[key] = _fitted(self._timings[key])
        return self._fitted[key]


@dataclass(frozen=True)
class _Key:
    """Circumstances with a pace of their own. The optimizer and savings change the work, not the models' pace."""

    where: Circumstances
    models: tuple[str, ...]
    task: str
    threads: int
    at_once: int


def _key(setup: Setup) -> _Key:
    return _Key(setup.where, setup.models, setup.task, setup.threads, setup.at_once)


def _size(models: Sequence[str]) -> float:
    """Return a number in proportion to the weights of the models' layers."""
    known = [architecture(model, fetch=False) for model in models]
    return math.fsum(
        ((one.layers if one else None) or _LAYERS) * ((one.hidden if one else None) or _HIDDEN) ** 2 for one in known
    )


def _fitted(timings: Sequence[Timing]) -> Pace:
    starts = [one.start_s for one in timings if one.start_s is not None]
    saves = [one.save_s for one in timings if one.save_s is not None]
    sizes = [one.saved_bytes for one in timings if one.saved_bytes is not None]
    timings = [one for one in timings if one.is_warm and one.evaluation.calls] or timings
    training = [(_features(one.train, one.setup, trains=True), one.train.seconds) for one in timings]
    evaluation = [
        (_features(one.evaluation, one.setup, trains=False), one.evaluation.seconds)
        for one in timings
        if one.evaluation.calls
    ]
    train, errors = _fit(training)
    return Pace(
        train,
        _fit(evaluation)[0],
        statistics.median(starts) if starts else 0.0,
        statistics.median(saves) if saves else 0.0,
        max(sizes, default=0),
        float(errors.std()) if len(errors) >= _FEW else _SPREAD,
        _drift(errors),
    )


def _fit(measured: Sequence[tuple[Sequence[float], float]]) -> tuple[tuple[float, float, float], np.ndarray]:
    """Return the seconds per feature, none negative, with the least relative error, and the logarithm of each error."""
    features = np.array([row for row, _ in measured])
    seconds = np.maximum(1e-6, [time for _, time in measured])
    age = np.arange(len(measured))[::-1]
    weights = np.sqrt(np.minimum(1.0, seconds / _WHOLE_S) * 0.5 ** (age / _HALF_LIFE))
    token_s = seconds.sum() / features[:, 2].sum()
    prior = _PRIOR * np.array([[1, 0, -PASS_COST_TOKENS], [0, 1, -PASS_COST_TOKENS]]) / (PASS_COST_TOKENS * token_s)
    scaled = features * (weights / seconds)[:, None]
    found, _ = nnls(np.vstack([scaled, prior]), np.concatenate([weights, [0.0, 0.0]]))
    return _three(found), np.log(seconds / np.maximum(1e-9, features @ found))


def _drift(errors: np.ndarray) -> float:
    """Return the standard deviation of the mean error of a search, from timings in their order."""
    searches = len(errors) // _OF_A_SEARCH
    if searches < 2:
        return float(_DRIFT_OF_ONE / np.sqrt(len(errors)))
    means = errors[-searches * _OF_A_SEARCH :].reshape(searches, _OF_A_SEARCH).mean(axis=1)
    return float(means.std(ddof=1))


def _three(found: np.ndarray) -> tuple[float, float, float]:
    first, second, third = map(float, found)
    return first, second, third


def _features(work: Work, setup: Setup, *, trains: bool) -> tuple[float, float, float]:
    known = [architecture(model, fetch=False) for model in setup.models]
    hidden = statistics.fmean((one.hidden if one else None) or _HIDDEN for one in known)
    # A layer computes 24 × hidden² operations per token in its matrices, and 4 × hidden × length in attention.
    tokens = work.tokens + work.squares / (6 * hidden)
    if trains:
        layers = (known[0].layers if known[0] else None) or _LAYERS
        frozen = min(1.0, setup.frozen_layers / layers)
        # A pass forward is a third of the work; a frozen layer needs no pass backward, which is the rest.
        tokens *= (1 + 2 * (1 - frozen)) / 3 * (_CHECKPOINTED if setup.checkpointing else 1.0)
    return work.calls, work.passes, tokens


def _dot(seconds: Sequence[float], amounts: Sequence[float]) -> float:
    return math.fsum(second * amount for second, amount in zip(seconds, amounts, strict=True))
