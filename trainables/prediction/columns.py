"""Answers as columns beside the input's own: labels by name, probabilities, and spans as text."""

from collections.abc import Sequence

from trainables import cells
from trainables.settings import TaskSettings
from trainables.task_registry import TASKS
from trainables.tasks.protocol import Answers

Cell = str | int | float | None
Columns = dict[str, list[Cell]]

LABEL, PROBABILITY = "predicted_label", "probability"
START, END, TEXT = "predicted_start", "predicted_end", "predicted_text"
ERROR = "error"
"""Column that says why a row has no prediction, where such rows are kept."""

Kind = type[str] | type[int] | type[float]

_KINDS: dict[str, Kind] = {START: int, END: int, TEXT: str}


def column_names(task: TaskSettings) -> tuple[str, ...]:
    """Return the names of the columns that a task's predictions add, in their order."""
    names: list[str] = []
    if TASKS[task.name].chooses_class:
        names += [LABEL, PROBABILITY, *(f"{PROBABILITY}_{name}" for name in task.class_names)]
    if task.finds_spans:
        names += [START, END, TEXT]
    return tuple(names)


def kind_of(column: str, task: TaskSettings) -> Kind:
    """Return the type of a column's cells. Labels that are all whole numbers are numbers, as in most data."""
    if column == LABEL:
        return int if _numbers(task) else str
    return _KINDS.get(column, float if column.startswith(PROBABILITY) else str)


def as_columns(answers: Answers, texts: Sequence[str], task: TaskSettings) -> Columns:
    """Return the columns of a task's answers to rows, given the rows' texts."""
    columns: Columns = {name: [] for name in column_names(task)}
    if answers.classes is not None and answers.probabilities is not None:
        names = [int(name) for name in task.class_names] if _numbers(task) else task.class_names
        chosen = answers.classes.tolist()
        columns[LABEL] = [names[number] for number in chosen]
        columns[PROBABILITY] = answers.probabilities[range(len(chosen)), chosen].tolist()
        for name, of_class in zip(task.class_names, answers.probabilities.T, strict=True):
            columns[f"{PROBABILITY}_{name}"] = of_class.tolist()
    if answers.spans is not None:
        for text, (start, end) in zip(texts, answers.spans.tolist(), strict=True):
            found = start >= 0
            columns[START].append(start if found else None)
            columns[END].append(end if found else None)
            columns[TEXT].append(text[start:end] if found else "")
    return columns


def _numbers(task: TaskSettings) -> bool:
    return all(map(cells.is_whole, task.class_names))
