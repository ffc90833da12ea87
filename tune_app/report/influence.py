"""What mattered: importance of the settings, and the path from the recommended configuration to the winner.

The path is an ablation analysis on a model of the trials. Source: Biedenkapp et al., "Efficient Parameter Importance
Analysis via Ablation with Surrogates", AAAI 2017.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.space import Scalar
from tune_app.objectives import values_of
from tune_app.report.choice import Choice
from tune_app.report.source import Source
from tune_app.study.reporting import varying
from tune_app.study.store import quiet_optuna

_FEWEST_FOR_IMPORTANCE = 6
_FEWEST_FOR_PATH = 8
_BEST_SHARE, _FEWEST_BEST = 0.1, 5
_TREES = 200


@dataclass(frozen=True)
class Step:
    """Change of one setting on the path.

    Attributes:
        value: predicted value of the configuration after the change.
        gain: its difference from the value before.
        spread: standard deviation of that difference over the trees of the forest.
    """

    name: str
    before: Scalar
    after: Scalar
    value: float
    gain: float
    spread: float


@dataclass(frozen=True)
class Path:
    """Path from the recommended configuration to the winner, one setting at a time.

    Attributes:
        start: predicted value of the recommended configuration.
        explained: share of the variance among the trials that the forest predicts for trials it has not seen.
        trials: trials that the forest learned from.
    """

    start: float
    steps: tuple[Step, ...]
    explained: float
    trials: int


@dataclass(frozen=True)
class Influence:
    """What mattered.

    Attributes:
        names: settings in which the launched trials differ, the most important first.
        importance: share of each setting; empty where there are too few trials to tell.
        study: the trials with a value as an Optuna study; a stopped trial has its last value. With several objectives
            it holds the complete trials alone.
        complete, stopped: the trials of ``study``, each with its number in the search.
        path: None for the reason in ``no_path``.
    """

    names: tuple[str, ...]
    importance: Mapping[str, float]
    study: optuna.Study
    complete: tuple[tuple[FrozenTrial, int], ...]
    stopped: tuple[tuple[FrozenTrial, int], ...]
    path: Path | None
    no_path: str

    @property
    def trials(self) -> int:
        """Number of trials with a value."""
        return len(self.complete) + len(self.stopped)


def influence(source: Source, choice: Choice | None) -> Influence:
    """Return what mattered, from the trials that have a value."""
    space = source.store.record.space
    differing = varying(source.measured) if len(source.measured) > 1 else set[str]()
    names = [name for name in space if name in differing]
    originals = source.ranked if source.status.has_several else source.measured
    study = study_of(_directions(source), [_valued(source, trial) for trial in originals])
    pairs = list(zip(study.get_trials(deepcopy=False), originals, strict=True))
    importance = _importance(study, names)
    path, no_path = _path(source, choice)
    return Influence(
        names=tuple(sorted(names, key=lambda name: -importance.get(name, 0.0))),
        importance=importance,
        study=study,
        complete=tuple((trial, original.number) for trial, original in pairs if values_of(original)),
        stopped=tuple((trial, original.number) for trial, original in pairs if not values_of(original)),
        path=path,
        no_path=no_path,
    )


def _directions(source: Source) -> list[StudyDirection]:
    modes = [objective.mode for objective in source.store.record.objectives]
    return [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in modes]


def _valued(source: Source, trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as a complete one; a stopped trial gets the value of its reports so far."""
    value = source.value_of(trial)
    assert value is not None, "measured trials have a value"
    return create_trial(
        state=TrialState.COMPLETE,
        values=values_of(trial) or [value],
        params=trial.params,
        distributions=trial.distributions,
    )


def study_of(directions: Sequence[StudyDirection], trials: Sequence[FrozenTrial] = ()) -> optuna.Study:
    """Return a study in memory."""
    with quiet_optuna():
        study = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler())
        study.add_trials(trials)
    return study


def _importance(study: optuna.Study, names: Sequence[str]) -> dict[str, float]:
    """Return the PED-ANOVA importance of settings for being among the best tenth of the trials, at least five."""
    count = len(study.get_trials(deepcopy=False))
    if count < _FEWEST_FOR_IMPORTANCE or len(names) < 2:
        return {}
    quantile = min(0.5, max(_BEST_SHARE, _FEWEST_BEST / count))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        # It warns where all shares are equal, which the plot shows.
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=evaluator, params=list(names))


def _path(source: Source, choice: Choice | None) -> tuple[Path | None, str]:
    """Return the path, or the reason for which there is none."""
    if choice is None or choice.trial is None:
        return None, "No trial is complete yet."
    if choice.recommended is None:
        return None, "The search completed no recommended configuration to start from."
    if choice.recommended == choice.trial:
        return None, "The winner is a recommended configuration itself."
    start, goal = source.trial(choice.recommended), source.trial(choice.trial)
    assert start is not None
    assert goal is not None
    if start.params == goal.params:
        return None, "The winner has the settings of the recommended configuration."
    trials = source.measured
    if len(trials) < _FEWEST_FOR_PATH:
        return None, f"{len(trials)} trials are too few to estimate it; {_FEWEST_FOR_PATH} are the least."
    return _Forest(source, trials).path(start.params, goal.params), ""


class _Forest:
    """Random forest that predicts the first objective of a configuration after all steps of its training.

    The number of finished steps is among its features, so that stopped trials teach it, too.
    """

    def __init__(self, source: Source, trials: Sequence[FrozenTrial]) -> None:
        # Imported here, since scikit-learn takes half a second to import.
        from sklearn.ensemble import RandomForestRegressor

        self._distributions = source.store.distributions
        steps = source.step_scale.count
        done = [max(trial.intermediate_values, default=steps) / steps for trial in trials]
        features = [self._features(trial.params, share) for trial, share in zip(trials, done, strict=True)]
        values = np.array([source.value_of(trial) for trial in trials], dtype=np.float64)
        self._count = len(trials)
        # Bootstrapped trees leave about a third of the trials out, which then test them.
        self._model = RandomForestRegressor(_TREES, min_samples_leaf=2, oob_score=True, random_state=0)
        self._model.fit(np.array(features), values)

    def path(self, start: Mapping[str, Scalar], goal: Mapping[str, Scalar]) -> Path:
        """Return the path that changes the setting next whose change is predicted to gain most."""
        current, left = dict(start), [name for name in goal if goal[name] != start.get(name)]
        by_tree = self._by_tree([current])[0]
        first, steps = float(by_tree.mean()), list[Step]()
        while left:
            tried = self._by_tree([{**current, name: goal[name]} for name in left])
            chosen = int(tried.mean(axis=1).argmax())
            name, gains = left.pop(chosen), tried[chosen] - by_tree
            steps.append(
                Step(
                    name,
                    current[name],
                    goal[name],
                    float(tried[chosen].mean()),
                    float(gains.mean()),
                    float(gains.std()),
                )
            )
            current[name], by_tree = goal[name], tried[chosen]
        return Path(first, tuple(steps), max(0.0, float(self._model.oob_score_)), self._count)

    def _by_tree(self, configurations: Sequence[Mapping[str, Scalar]]) -> NDArray[np.float64]:
        """Return every tree's prediction: (configurations, trees)."""
        features = np.array([self._features(params, 1.0) for params in configurations])
        return np.stack([tree.predict(features) for tree in self._model.estimators_], axis=1)

    def _features(self, params: Mapping[str, Scalar], done: float) -> list[float]:
        numbers = [
            number
            for name, distribution in self._distributions.items()
            for number in _encoded(params.get(name), distribution)
        ]
        return [*numbers, done]


def _encoded(value: Any, distribution: BaseDistribution) -> Iterator[float]:
    """Yield a value as numbers: one for each choice, or one on the scale of its range; NaN for an absent value."""
    if isinstance(distribution, CategoricalDistribution):
        yield from (float(value == choice) for choice in distribution.choices)
    elif value is None:
        yield math.nan
    else:
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        yield math.log(value) if distribution.log else float(value)
