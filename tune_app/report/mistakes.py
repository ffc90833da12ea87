"""Where the best model errs, from what validation measured: classes, criteria and lengths of spans."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.reports import BY_CRITERION, BY_SPAN_LENGTH, CONFUSION
from tune_app.outcomes import BREAKDOWN_ATTRIBUTES
from tune_app.report.choice import Choice
from tune_app.report.source import Source

Table = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class: shares from 0 to 1; None where they are not defined."""

    name: str
    rows: float
    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True)
class Mistakes:
    """Scores of the best model on parts of the validation rows.

    Attributes:
        trial: number of the trial; None if nothing was measured, for the reason in ``absent``.
        classes: names of the classes, in their order.
        confusion: rows by true class and predicted class: (classes, classes).
        by_criterion: scores by criterion, the worst first; ``criterion_scores`` names the columns.
        by_length: scores of spans by their length in words.
    """

    trial: int | None = None
    absent: str = ""
    by_class: tuple[ClassScores, ...] = ()
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[float, ...], ...] = ()
    by_criterion: tuple[tuple[str, Mapping[str, float]], ...] = ()
    criterion_scores: tuple[str, ...] = ()
    by_length: tuple[tuple[str, Mapping[str, float]], ...] = ()


def mistakes(source: Source, choice: Choice | None) -> Mistakes:
    trial = None if choice is None or choice.trial is None else source.trial(choice.trial)
    if trial is None:
        return Mistakes(absent="No trial is complete yet.")
    attributes = trial.user_attrs
    if not any(attributes.get(name) for name in BREAKDOWN_ATTRIBUTES):
        return Mistakes(
            absent=f"Trial {trial.number} stores no scores by class, criterion or length: an earlier version ran it, or"
            " its task measures none."
        )
    confusion = attributes.get(CONFUSION) or {}
    classes = tuple(confusion)
    matrix = tuple(tuple(float(confusion[true].get(guess, 0.0)) for guess in classes) for true in classes)
    by_criterion = attributes.get(BY_CRITERION) or {}
    names = tuple(dict.fromkeys(name for scores in by_criterion.values() for name in scores if not _is_count(name)))
    return Mistakes(
        trial=trial.number,
        by_class=_by_class(classes, matrix),
        classes=classes,
        confusion=matrix,
        by_criterion=_worst_first(by_criterion, names, source.objective.name),
        criterion_scores=names,
        by_length=tuple((attributes.get(BY_SPAN_LENGTH) or {}).items()),
    )


def _is_count(name: str) -> bool:
    return name in ("rows", "positives") or name.startswith("rows_")


def _worst_first(by_criterion: Any, names: tuple[str, ...], metric: str) -> tuple[tuple[str, Mapping[str, float]], ...]:
    if not names:
        return tuple(by_criterion.items())
    ordering = metric if metric in names else names[-1]
    return tuple(sorted(by_criterion.items(), key=lambda item: item[1].get(ordering, 0.0)))


def _by_class(classes: tuple[str, ...], matrix: tuple[tuple[float, ...], ...]) -> tuple[ClassScores, ...]:
    scores = []
    for number, name in enumerate(classes):
        right, rows = matrix[number][number], sum(matrix[number])
        guessed = sum(row[number] for row in matrix)
        f1 = 2 * right / (rows + guessed) if rows + guessed else 0.0
        scores.append(ClassScores(name, rows, right / guessed if guessed else None, right / rows if rows else None, f1))
    return tuple(scores)
