"""Problems on which ``quality.py`` replays searches: closed forms, and recorded trainings.

A recorded problem interpolates between the trainings of a table (``curves/``). Extremely randomised trees predict the
curve of any configuration in the table's space. Each run adds the noise of a recorded one: the difference between two
seeds of the same configuration, for all rungs together. ``fit_error`` measures the trees' error on trainings that they
did not see.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby

import numpy as np
from curves.table import EPOCHS, RUNGS_PER_EPOCH, SPACES, TRAINING_ROWS, Curve, read_table
from numpy.typing import NDArray
from problems import FineTuning, position
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import cross_val_predict

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Choices, Scalar, Space, parse_space
from trainables.models.families import Architecture
from trainables.models.sizes import architecture
from tune_app.sampling.recommended import Turn, recommended_turns

_TREES = 200

_TOY_MODELS = {
    name: Architecture(family, layers=layers, hidden=hidden)
    for name, family, layers, hidden in (
        ("MiniLM-L12-H384", "bert", 12, 384),
        ("distilbert", "distilbert", 6, 768),
        ("bert-base", "bert", 12, 768),
        ("roberta-base", "roberta", 12, 768),
        ("deberta-base", "deberta", 12, 768),
        ("bert-large", "bert", 24, 1024),
        ("roberta-large", "roberta", 24, 1024),
        ("deberta-large", "deberta", 24, 1024),
    )
}


class ClosedForm:
    """Problem of ``problems.py`` as a search of so many epochs."""

    per_epoch = RUNGS_PER_EPOCH
    training_rows = 20_000

    def __init__(self, problem: FineTuning, epochs: int) -> None:
        self._problem = problem
        self.epochs = epochs

    @property
    def space(self) -> Space:
        return self._problem.space

    @property
    def budget_gib(self) -> float:
        return self._problem.budget_gib

    def need_gib(self, params: Mapping[str, Scalar]) -> float:
        return self._problem.need_gib(params)

    def fits(self, params: Mapping[str, Scalar]) -> bool:
        return self._problem.fits(params)

    def curve(self, params: Mapping[str, Scalar], seed: int) -> Sequence[float]:
        return self._problem.curve(params, seed, self.epochs, self.per_epoch)

    def true_curve(self, params: Mapping[str, Scalar]) -> Sequence[float]:
        return self._problem.true_curve(params, self.epochs, self.per_epoch)

    def recommended(self, seed: int) -> Iterator[Turn]:
        return recommended_turns(ActiveSpace(self.space), _TOY_MODELS, seed)

    def best_there_is(self) -> float:
        return self._problem.best_there_is()


class Recorded:
    """Table of trainings as a search; every configuration fits."""

    per_epoch = RUNGS_PER_EPOCH

    def __init__(self, table: str) -> None:
        self.epochs = EPOCHS[table]
        self.training_rows = TRAINING_ROWS[table]
        self.space = parse_space({name: dict(entry) for name, entry in SPACES[table].items()})
        self._models = {name: architecture(name, fetch=False) for name in self._model_names()}
        self._curves = [curve for curve in read_table(table) if not curve.failed]
        self._noises = _noises(self._curves)
        self._trees = ExtraTreesRegressor(_TREES, min_samples_leaf=2, random_state=0, n_jobs=1)
        self._trees.fit(self._inputs, self._outputs)
        self._known: dict[str, tuple[float, ...]] = {}

    @property
    def runs(self) -> int:
        return len(self._curves)

    def fits(self, params: Mapping[str, Scalar]) -> bool:
        return True

    def curve(self, params: Mapping[str, Scalar], seed: int) -> Sequence[float]:
        noise = random.Random(f"{seed}:{self.space.key(params)}").choice(self._noises)
        return [min(1.0, max(0.0, value + own)) for value, own in zip(self.true_curve(params), noise, strict=True)]

    def true_curve(self, params: Mapping[str, Scalar]) -> Sequence[float]:
        key = self.space.key(params)
        if key not in self._known:
            self._known[key] = tuple(self._trees.predict([self._position(params)])[0].tolist())
        return self._known[key]

    def recommended(self, seed: int) -> Iterator[Turn]:
        return recommended_turns(ActiveSpace(self.space), self._models, seed)

    @cached_property
    def fit_error(self) -> tuple[float, float]:
        """Share of the variance of final values explained, and the root mean squared error, on trainings not seen.

        Both seeds of a configuration are left out together.
        """
        groups = [curve.index for curve in self._curves]
        predicted = cross_val_predict(self._trees, self._inputs, self._outputs, groups=groups, cv=_FiveGroups())
        errors = predicted[:, -1] - self._outputs[:, -1]
        return 1 - float(errors.var() / self._outputs[:, -1].var()), float(np.sqrt((errors**2).mean()))

    def best_there_is(self) -> float:
        """Return the best value of 20,000 random configurations; a search may find a better one."""
        rng = random.Random(0)
        drawn = [self._position(self.space.sample(rng)) for _ in range(20_000)]
        return float(self._trees.predict(drawn)[:, self.per_epoch - 1 :: self.per_epoch].max())

    @cached_property
    def _inputs(self) -> NDArray[np.float64]:
        return np.array([self._position(curve.params) for curve in self._curves])

    @cached_property
    def _outputs(self) -> NDArray[np.float64]:
        return np.array([curve.values for curve in self._curves])

    def _position(self, params: Mapping[str, Scalar]) -> list[float]:
        """Return a configuration as numbers in 0..1: ranked values by their place, one of several texts by its own."""
        found: list[float] = []
        for name, entry in self.space.entries.items():
            if isinstance(entry, Choices) and isinstance(entry.choices[0], str):
                found += [float(params[name] == choice) for choice in entry.choices]
            else:
                found.append(position(entry, params[name]))
        return found

    def _model_names(self) -> list[str]:
        entry = self.space.entries.get("model.name")
        return [str(name) for name in entry.examples] if entry else ["minilm-l6"]


class _FiveGroups:
    """Splits of configurations into five folds."""

    def split(
        self, X: object, y: object, groups: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:  # scikit-learn's names
        folds = np.array(groups) % 5
        for fold in range(5):
            yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        return 5


def _noises(curves: Sequence[Curve]) -> list[tuple[float, ...]]:
    """Return the noise of single runs: half the variance of the difference of two seeds; none for a single seed."""
    by_index = sorted(curves, key=lambda curve: curve.index)
    found: list[tuple[float, ...]] = []
    for _, group in groupby(by_index, key=lambda curve: curve.index):
        runs = list(group)
        if len(runs) > 1:
            pairs = zip(runs[0].values, runs[1].values, strict=True)
            found.append(tuple((one - other) / math.sqrt(2) for one, other in pairs))
    silent = tuple(0.0 for _ in curves[0].values)
    return found or [silent]
