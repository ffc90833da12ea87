"""The classes of a label column: their names and their order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables import cells
from trainables.data.errors import DataError
from trainables.data.table import Table

_MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of all rows, ``(rows,)``, as indices into ``class_names``."""

    class_names: tuple[str, ...]
    numbers: NDArray[np.int64]


def read_labels(table: Table, names: Sequence[str] | None) -> Labels:
    """Read the label column.

    Args:
        names: the class names in their order, all of which must occur in the data. None finds them: numbers in
            numerical order, names in alphabetical order.

    Raises:
        DataError: a label is none of the classes, a class has no row, or the classes are ambiguous.
    """
    written = table.parse("label", cells.label)
    first_rows: dict[str, int] = {}
    for row, label in enumerate(written, start=1):
        first_rows.setdefault(label, row)
    if {*first_rows} <= {"0", "1", *cells.TRUTH} and not {*first_rows} <= {*cells.TRUTH}:
        # Some rows hold 1 and others true.
        written = [str(cells.TRUTH.get(label, label)) for label in written]
        first_rows = {label: first_rows.get(label, 0) for label in written}
    if names is None:
        _check_clear(table, first_rows)
        names = sorted(first_rows, key=int) if all(map(cells.is_whole, first_rows)) else sorted(first_rows)
    _check_complete(table, first_rows, names)
    places = {name: number for number, name in enumerate(names)}
    return Labels(tuple(names), np.array([places[label] for label in written], dtype=np.int64))


def _check_clear(table: Table, first_rows: dict[str, int]) -> None:
    """Check that the labels are plausible classes.

    Raises:
        DataError: the labels mix numbers and names, differ in case alone, or are too many.
    """
    if len(first_rows) > _MOST_CLASSES:
        raise DataError(
            f"{table.source}: column {table.columns.label!r} holds {len(first_rows)} different labels in {len(table)}"
            f" rows, but at most {_MOST_CLASSES} classes are possible; name the right column with data.columns.label"
        )
    numbers = [label for label in first_rows if cells.is_whole(label)]
    others = [label for label in first_rows if not cells.is_whole(label)]
    if numbers and others:
        rarer, more = sorted((numbers, others), key=len)
        kind, rest = ("number", "names") if rarer is numbers else ("name", "numbers")
        raise table.error(
            first_rows[rarer[0]],
            "label",
            f"{rarer[0]!r} is a {kind} among {rest} such as {more[0]!r}; write labels alike, or list all of them in"
            " task.labels",
        )
    seen: dict[str, str] = {}
    for label, row in first_rows.items():
        twin = seen.setdefault(label.casefold(), label)
        if twin != label:
            raise table.error(
                row,
                "label",
                f"{label!r} differs from {twin!r} only in case; write both alike, or list all labels in task.labels",
            )


def _check_complete(table: Table, first_rows: dict[str, int], names: Sequence[str]) -> None:
    """Check that the rows hold exactly the named classes.

    Raises:
        DataError: a row belongs to another class, or a class has no row.
    """
    for label, row in first_rows.items():
        if label not in names:
            listed = ", ".join(names[:20])
            raise table.error(
                row, "label", f"{label!r} is not one of task.labels ({listed}); correct the row, or list it there"
            )
    absent = next((name for name in names if name not in first_rows), None)
    if absent is not None:
        raise DataError(
            f"{table.source}: no row is of the class {absent!r} of task.labels, which every score would count as never"
            " found; leave it out of task.labels, or add rows of it"
        )
