"""Detection of stray quotes in CSV files: a quote that opens a field by mistake swallows rows up to the next quote."""

import csv

from trainables.data.errors import DataError
from trainables.data.formats import READABLE_CHARACTERS, CsvForm
from trainables.data.table import Table

_MOST_LABELS = 1000


def require_no_swallowed_rows(table: Table) -> None:
    """Reject a cell that holds lines of the table's own shape, each with a known label in the label column.

    Raises:
        DataError: such a cell exists; the message names its lines.
    """
    form = table.file.csv
    if form is None:
        return
    frame = table.file.frame
    label_at = table.present.index(table.columns.label)
    known = set(frame.iloc[:, label_at].dropna().str.strip().unique()) - {""}
    if len(known) > _MOST_LABELS:
        return
    for at, name in enumerate(table.present):
        cells = frame.iloc[:, at]
        for row in cells.index[cells.str.contains("[\r\n]", na=False)]:
            if _holds_rows(cells[row], at, label_at, len(table.present), known, form):
                first, last = form.lines_of(int(row) + 1)
                raise DataError(
                    f"{table.source}: lines {first} to {last} are one row, because a quote in its column {name!r} is"
                    " closed lines later; remove the stray quotes or double them, or, where the text holds these"
                    " lines, give the data as JSONL"
                )


def _holds_rows(cell: str, at: int, label_at: int, columns: int, known: set[str], form: CsvForm) -> bool:
    """Return whether a line of the cell is the end, the whole or the beginning of a row.

    Args:
        at: index of the cell's column.
        label_at: index of the label column.
        known: the labels of the table.
    """
    lines = cell.splitlines()
    for number, line in enumerate(lines):
        first = at if number == 0 else 0
        end = at + 1 if number == len(lines) - 1 else columns
        if first <= label_at < end and label_at != at and 0 < len(line) < READABLE_CHARACTERS:
            fields = next(csv.reader([line], delimiter=form.delimiter, skipinitialspace=form.is_padded), [])
            if len(fields) == end - first and fields[label_at - first].strip() in known:
                return True
    return False
