"""Figures of a data set: rows, groups and classes of each part of the split, baselines and standard errors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.split import Development
from trainables.settings import TaskSettings
from trainables.task_registry import TASKS

RIGHT = 0.8
"""Share of the rows that the model of ``standard_error`` classifies correctly."""

_DRAWS = 400
_SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows and groups of one part of the split, and the number of rows of each class, ``(classes,)``."""

    name: str
    rows: int
    groups: int
    of_class: NDArray[np.int64]


def parts_of(development: Development) -> list[Part]:
    """Return the parts of the split; several folds count as one part."""
    rows = development.rows
    classes = len(rows.class_names)

    def part(name: str, numbers: NDArray[np.int64]) -> Part:
        groups = {rows.groups[row] for row in numbers}
        return Part(name, len(numbers), len(groups), np.bincount(rows.labels[numbers], minlength=classes))

    if len(development.splits) > 1:
        own = [part(f"{len(development.splits)} folds", np.arange(len(rows)))]
    else:
        (split,) = development.splits
        own = [part("training", split.train), part("validation", split.validation)]
    test = np.bincount(development.test_labels, minlength=classes)
    return [*own, Part("test", int(test.sum()), development.test_groups, test)]


def validated(development: Development) -> NDArray[np.int64]:
    """Return the rows that a trial is scored on, over all folds."""
    return np.sort(np.concatenate([split.validation for split in development.splits]))


def baselines(task: TaskSettings, development: Development) -> dict[str, float]:
    """Return the task's metric for answers without any training, by the way of answering; empty if it is unknown."""
    rows = validated(development)
    shares = np.bincount(development.rows.labels[rows], minlength=len(development.rows.class_names)) / len(rows)
    most = int(shares.argmax())
    nothing = float(np.mean(development.rows.evidence[rows, 0] < 0))
    if task.metric in ("token_f1", "exact_match"):
        return {"finding nothing anywhere": nothing}
    always = f"always {development.rows.class_names[most]!r}"
    by_shares = "guessing by class shares"
    # F1 of a class with share p: 2 p / (1 + p) if always guessed, p if guessed with probability p.
    f1_of_most = float(2 * shares[most] / (1 + shares[most]))
    macro = {always: f1_of_most / len(shares), by_shares: 1 / len(shares)}
    by_metric = {
        "macro_f1": macro,
        "accuracy": {always: float(shares[most]), by_shares: float((shares**2).sum())},
        "binary_f1": {always: f1_of_most if most == 1 else 0.0, by_shares: float(shares[1])},
        "auc": {always: 0.5, by_shares: 0.5},
        "mean_score": {f"{answer} and no words": (value + nothing) / 2 for answer, value in macro.items()},
    }
    own = TASKS[task.name].baselines
    if task.metric not in by_metric and own is not None:
        return dict(own(task.metric, shares.tolist(), nothing))
    return by_metric.get(task.metric, {})


def standard_error(task: TaskSettings, development: Development) -> float:
    """Return the standard error of the task's metric for a model that is correct on ``RIGHT`` of the validation rows.

    The model's wrong answers are spread over the other classes. The rows are taken as independent. Rows of one group
    seldom are, so the result is a lower bound. A metric of another distribution counts as a mean over the rows.
    """
    rows = validated(development)
    of_class = np.bincount(development.rows.labels[rows], minlength=len(development.rows.class_names))
    of_share = float(np.sqrt(RIGHT * (1 - RIGHT) / len(rows)))
    if task.metric not in ("macro_f1", "binary_f1", "auc", "mean_score"):
        return of_share
    if task.metric == "auc":
        return _error_of_area(of_class)
    scores = _drawn(of_class, _binary_f1 if task.metric == "binary_f1" else _macro_f1)
    if task.metric == "mean_score":
        return float(np.hypot(scores.std(), of_share) / 2)
    return float(scores.std())


def _error_of_area(of_class: NDArray[np.int64]) -> float:
    """Return the standard error of an area of ``RIGHT``.

    Source: Hanley and McNeil, "The Meaning and Use of the Area under a ROC Curve", 1982.
    """
    one = of_class[1:].min()
    other = of_class.sum() - one
    area = RIGHT
    both_ones = area / (2 - area) - area**2
    both_others = 2 * area**2 / (1 + area) - area**2
    return float(np.sqrt((area * (1 - area) + (one - 1) * both_ones + (other - 1) * both_others) / (one * other)))


def _drawn(of_class: NDArray[np.int64], score: Callable[[Floats], Floats]) -> Floats:
    """Return the scores of drawn confusion matrices, (draws, classes, classes), true classes first."""
    classes = len(of_class)
    rng = np.random.default_rng(_SEED)
    wrong = (1 - RIGHT) / (classes - 1)
    answers = np.full((classes, classes), wrong) + (RIGHT - wrong) * np.eye(classes)
    truth = rng.multinomial(of_class.sum(), of_class / of_class.sum(), size=_DRAWS)
    return score(np.stack([rng.multinomial(truth[:, true], answers[true]) for true in range(classes)], axis=1))


def _f1(matrices: Floats) -> Floats:
    right = np.einsum("dcc->dc", matrices)
    f1: Floats = 2 * right / np.maximum(1, matrices.sum(axis=1) + matrices.sum(axis=2))
    return f1


def _macro_f1(matrices: Floats) -> Floats:
    means: Floats = _f1(matrices).mean(axis=1)
    return means


def _binary_f1(matrices: Floats) -> Floats:
    return _f1(matrices)[:, 1]
