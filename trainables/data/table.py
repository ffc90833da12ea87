"""The columns of a data file in their roles: required and optional columns, and the parsing of every cell."""

import difflib
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from trainables.data.errors import DataError
from trainables.data.formats import DataFile, read_file
from trainables.settings import ColumnNames

Cell = TypeVar("Cell")

_REQUIRED = ("text", "label")
_LISTED_COLUMNS = 12


@dataclass(frozen=True)
class Table:
    """Cells as read, and the columns' names in the file and in the settings."""

    source: str
    file: DataFile
    columns: ColumnNames

    def __len__(self) -> int:
        return len(self.file.frame)

    @property
    def present(self) -> list[str]:
        """The columns' names, in the file's order."""
        return [str(name) for name in self.file.frame.columns]

    @property
    def unread(self) -> list[str]:
        """Names of columns without a role."""
        read = set(asdict(self.columns).values())
        return [name for name in self.present if name not in read]

    def has(self, role: str) -> bool:
        """Return whether a role's column exists; ``require_columns`` has checked the columns that must exist."""
        return getattr(self.columns, role) in self.file.frame.columns

    def parse(self, role: str, parser: Callable[[object], Cell]) -> list[Cell]:
        """Parse every cell of a role's column; ``parser`` gets None for a missing cell and may raise ``ValueError``.

        Raises:
            DataError: a cell cannot be parsed; the message names its row and column.
        """
        column = self.file.frame[getattr(self.columns, role)]
        parsed: list[Cell] = []
        for row, (cell, missing) in enumerate(zip(column.tolist(), column.isna(), strict=True), start=1):
            try:
                parsed.append(parser(None if missing else cell))
            except ValueError as error:
                raise self.error(row, role, str(error)) from error
        return parsed

    def error(self, row: int, role: str, problem: str) -> DataError:
        """Return the error for a cell; rows count from 1."""
        return DataError(f"{self.source}: row {row}, column {getattr(self.columns, role)!r}: {problem}")

    def require_columns(self) -> None:
        """Check that every required column and every column that the user named exists.

        Raises:
            DataError: a column is missing; the message names all missing columns.
        """
        missing = [role for role in asdict(self.columns) if self._is_missed(role)]
        if not missing:
            return
        names = " and ".join(repr(getattr(self.columns, role)) for role in missing)
        what, ones = ("column", "one") if len(missing) == 1 else ("columns", "ones")
        remedies = " ".join(f"data.columns.{role}={self._nearest(role)}" for role in missing)
        raise DataError(
            f"{self.source} has no {what} {names}, its columns are {listed(self.present)}; "
            f"name the right {ones} with {remedies}"
        )

    def _is_missed(self, role: str) -> bool:
        name: str | None = getattr(self.columns, role)
        if name is None or name in self.file.frame.columns:
            return False
        partner = {"evidence_start": "evidence_end", "evidence_end": "evidence_start"}.get(role)
        return (
            role in _REQUIRED
            or name != getattr(ColumnNames(), role)  # The user named it.
            or name.lower() in map(str.lower, self.present)
            or (partner is not None and self.has(partner))
        )

    def _nearest(self, role: str) -> str:
        likeness = {column.lower(): column for column in self.unread}
        nearest = difflib.get_close_matches(getattr(self.columns, role).lower(), likeness, n=1)
        return likeness[nearest[0]] if nearest else "NAME"


def read_table(source: str, columns: ColumnNames) -> Table:
    """Read a data file (``demo``: the built-in data) and check that the columns it needs exist.

    Raises:
        DataError: the file or one of its columns cannot be used.
    """
    table = Table(source, read_cells(source, [name for name in asdict(columns).values() if name]), columns)
    table.require_columns()
    return table


def read_cells(source: str, expected: Sequence[str]) -> DataFile:
    """Read the cells of a data file (``demo``: the built-in data), whatever its columns are.

    Args:
        expected: column names that identify a CSV file's delimiter.

    Raises:
        DataError: the file cannot be read, or holds no rows.
    """
    if source == "demo":
        from trainables.data.demo import demo_rows

        return DataFile(demo_rows())
    file = read_file(source, expected)
    if len(file.frame) == 0:
        raise DataError(f"{source} holds no rows; give it a header with the columns' names and one row per pair")
    return file


def listed(columns: list[str]) -> str:
    """Return column names for a message, shortened: the header of a file in another format may be the whole file."""
    rest = len(columns) - _LISTED_COLUMNS
    named = ", ".join(map(reprlib.repr, columns[:_LISTED_COLUMNS]))
    return f"{named} and {rest} more" if rest > 0 else named
