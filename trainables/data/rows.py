"""The user's rows: CSV, JSONL or Parquet read into one form, every cell checked before a trial needs it."""

import difflib
import hashlib
import json
import os
import reprlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainables.settings import ColumnNames, DataSettings

Cell = TypeVar("Cell")

_NO_EVIDENCE = -1
_TRUTH = {"false": 0, "true": 1}
_LISTED_COLUMNS = 12
_FEWEST_GROUPS = 3  # training, validation and test


class DataError(ValueError):
    """The user's data cannot be used; the message is one line: what is wrong, where, and the remedy."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Checked (text, criterion) pairs, one entry per row in each column, in the order of the file.

    ``criteria`` is ``None`` where the data holds texts alone. ``labels`` is ``(rows,)``. ``evidence`` is
    ``(rows, 2)``: the first character and the one after the last, counted in the text, or -1 and -1.
    """

    texts: tuple[str, ...]
    criteria: tuple[str, ...] | None
    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    evidence: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content in order; equal for equal content, whatever file it was read from."""
        digest = hashlib.sha256()
        for name, column in (("text", self.texts), ("criterion", self.criteria), ("group", self.groups)):
            digest.update(f"{name}:{'absent' if column is None else len(column)}\n".encode())
            for value in column or ():
                encoded = value.encode()
                # The length keeps ("ab", "c") apart from ("a", "bc").
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(self.evidence.astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """The rows at ``indices``, in that order."""
        return Rows(
            texts=tuple(self.texts[index] for index in indices),
            criteria=None if self.criteria is None else tuple(self.criteria[index] for index in indices),
            labels=self.labels[indices],
            groups=tuple(self.groups[index] for index in indices),
            evidence=self.evidence[indices],
        )

    def followed_by(self, others: "Rows") -> "Rows":
        """These rows and then others of the same file."""
        criteria = None
        if self.criteria is not None and others.criteria is not None:
            criteria = self.criteria + others.criteria
        return Rows(
            texts=self.texts + others.texts,
            criteria=criteria,
            labels=np.concatenate([self.labels, others.labels]),
            groups=self.groups + others.groups,
            evidence=np.concatenate([self.evidence, others.evidence]),
        )


def read_rows(data: DataSettings, classes: int) -> Rows:
    """Reads and checks ``data.path`` (``demo``: the built-in data), labels being 0 to ``classes - 1``.

    Raises:
        DataError: the file, a column or a cell cannot be used, or the rows cannot be learnt from.
    """
    table = _Table(data.path, _read_frame(data.path), data.columns)
    rows = _checked_rows(table, classes)
    if data.max_rows is not None:
        rows = _whole_groups(rows, data.max_rows)
    _require_learnable(rows, data)
    return rows


def _read_frame(source: str) -> pd.DataFrame:
    if source == "demo":
        from trainables.data.demo import demo_rows

        return demo_rows()
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{source}: the suffix {path.suffix!r} is not one of {', '.join(_READERS)}; "
            "convert the file to one of them, or rename it if it is one"
        )
    # Unlike Path's own, these take any text: a name too long for a file, a folder that nobody may enter.
    if os.path.isdir(path):
        raise DataError(f"{source}: is a folder; give the file in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{source}: is a pipe, a socket or a device, not a file; write its rows to a file first")
    if not os.path.isfile(path):
        raise DataError(f"{source}: there is no such file; correct the path")
    try:
        return reader(path)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"{source} is not UTF-8 (it holds the byte 0x{byte:02x}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {_one_line(error)}; make it readable, or give a copy") from error


def _read_csv(path: Path) -> pd.DataFrame:
    # Everything as strings: a text "NA" is a text, and the cells are parsed with their row at hand.
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        # By itself, because a name that stands there twice is made another one in the frame.
        header = pd.read_csv(path, header=None, nrows=1, **as_text)
        frame: pd.DataFrame = pd.read_csv(path, **as_text)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except pd.errors.ParserError as error:
        raise DataError(
            f"{path} is not a proper CSV file: {_one_line(error)}; quote fields that hold commas"
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path}: the rows hold more fields than the header names; quote fields that hold commas")
    names = Counter(header.iloc[0])
    repeated = [name for name in names if name and names[name] > 1]
    if repeated:
        raise DataError(f"{path}: the column {repeated[0]!r} stands in the header {names[repeated[0]]} times; keep one")
    return frame


def _read_jsonl(path: Path) -> pd.DataFrame:
    records: list[dict[str, object]] = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                records.append(_json_object(line, f"{path}: line {number}"))
    names = dict.fromkeys(name for record in records for name in record)
    return pd.DataFrame({name: pd.Series([record.get(name) for record in records], dtype=object) for name in names})


def _json_object(line: str, where: str) -> dict[str, object]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error.msg}); write one object per line") from error
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or values in values in values.
        raise DataError(f"{where} cannot be read ({_one_line(error)}); write texts and numbers alone") from None
    if not isinstance(record, dict):
        raise DataError(f"{where} holds {reprlib.repr(record)}, not an object; write one object per line")
    return record


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a proper Parquet file: {_one_line(error)}; write it again") from error
    # Arrow's types keep integers beside nulls integers; pandas' own metadata would hide an index column.
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    return frame


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


@dataclass(frozen=True)
class _Table:
    """Cells as read, and the names under which the user and the settings know the columns."""

    source: str
    frame: pd.DataFrame
    columns: ColumnNames

    def name(self, field: str) -> str:
        name: str = getattr(self.columns, field)
        return name

    def has(self, field: str) -> bool:
        """Whether an optional column is there.

        Raises:
            DataError: it is not, although the settings name it or one differs from it in case alone.
        """
        name = self.name(field)
        if name in self.frame.columns:
            return True
        named_by_user = name != getattr(ColumnNames(), field)
        if named_by_user or name.lower() in (str(present).strip().lower() for present in self.frame.columns):
            raise self.missing_column(field)
        return False

    def parse(self, field: str, parser: Callable[[object], Cell]) -> list[Cell]:
        """Every cell through ``parser``, which gets ``None`` for a missing one and may raise ``ValueError``."""
        if self.name(field) not in self.frame.columns:
            raise self.missing_column(field)
        column = self.frame[self.name(field)]
        parsed: list[Cell] = []
        for row, (cell, missing) in enumerate(zip(column.tolist(), column.isna(), strict=True), start=1):
            try:
                parsed.append(parser(None if missing else cell))
            except ValueError as error:
                raise self.error(row, field, str(error)) from error
        return parsed

    def error(self, row: int, field: str, problem: str) -> DataError:
        return DataError(f"{self.source}: row {row}, column {self.name(field)!r}: {problem}")

    def missing_column(self, field: str) -> DataError:
        name = self.name(field)
        present = [str(column) for column in self.frame.columns]
        likeness = {column.strip().lower(): column for column in present}
        nearest = difflib.get_close_matches(name.lower(), likeness, n=1)
        remedy = likeness[nearest[0]] if nearest else "NAME"
        why = "; it says which rows stay together in the split" if field == "group_id" else ""
        return DataError(
            f"{self.source} has no column {name!r}, its columns are {_listed(present)}; "
            f"name the right one with data.columns.{field}={remedy}{why}"
        )


def _checked_rows(table: _Table, classes: int) -> Rows:
    if len(table.frame) == 0:
        raise DataError(f"{table.source} holds no rows; give it a header with the columns' names and one row per pair")
    texts = table.parse("text", _text)
    return Rows(
        texts=tuple(texts),
        criteria=tuple(table.parse("criterion", _text)) if table.has("criterion") else None,
        labels=np.array(table.parse("label", lambda cell: _label(cell, classes)), dtype=np.int64),
        groups=tuple(table.parse("group_id", _group)),
        evidence=_evidence(table, texts),
    )


def _text(cell: object) -> str:
    if cell is None or cell == "":
        raise ValueError("is empty; fill it in or remove the row")
    if not isinstance(cell, str):
        raise ValueError(f"{reprlib.repr(cell)} is not a text; write it as a string")
    if cell.isspace():
        raise ValueError("holds only blanks; fill it in or remove the row")
    return _unicode(cell)


def _group(cell: object) -> str:
    if cell is None or str(cell).strip() == "":
        raise ValueError(
            "is empty; give every row its group, or rows of one group may end up on both sides of the split"
        )
    return _unicode(str(cell))


def _unicode(text: str) -> str:
    place = text.find("\0")
    if place >= 0:
        raise ValueError(f"character {place + 1} is NUL, which no text holds; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start + 1} is half a surrogate pair; write the whole character") from error
    return text


def _label(cell: object, classes: int) -> int:
    label = _integer(cell)
    if label is None:
        raise ValueError(f"is empty; write a class from 0 to {classes - 1}, or remove the row")
    if not 0 <= label < classes:
        raise ValueError(f"{label} is not a class from 0 to {classes - 1}; number the classes so, or set task.classes")
    return label


def _integer(cell: object) -> int | None:
    """An integer however it is written (1, 1.0, True, "true", " 1 "); ``None`` for an empty cell."""
    written = str("" if cell is None else cell).strip()
    if not written:
        return None
    if written.lower() in _TRUTH:
        return _TRUTH[written.lower()]
    with suppress(ValueError):
        return int(written)
    with suppress(ValueError):
        number = float(written)
        if number.is_integer():
            return int(number)
    raise ValueError(f"{reprlib.repr(cell)} is not an integer; write it as one")


def _evidence(table: _Table, texts: list[str]) -> NDArray[np.int64]:
    evidence = np.full((len(texts), 2), _NO_EVIDENCE, dtype=np.int64)
    present = [table.has(field) for field in ("evidence_start", "evidence_end")]
    if not any(present):
        return evidence
    starts = table.parse("evidence_start", _integer)
    ends = table.parse("evidence_end", _integer)
    for index, (text, start, end) in enumerate(zip(texts, starts, ends, strict=True)):
        if start is None and end is None:
            continue
        if start is None or end is None:
            field = "evidence_start" if start is None else "evidence_end"
            raise table.error(index + 1, field, "is empty, but the other end of the evidence is given; give both")
        if not 0 <= start < end <= len(text):
            field = "evidence_end" if 0 <= start < len(text) else "evidence_start"
            problem = f"the evidence from {start} to {end} is not within the text's {len(text)} characters"
            remedy = "write its first character, counted from 0, and the one after its last"
            raise table.error(index + 1, field, f"{problem}; {remedy}")
        evidence[index] = start, end
    return evidence


def _whole_groups(rows: Rows, max_rows: int) -> Rows:
    """As many whole groups as ``max_rows`` rows can hold, whatever place they have in the file."""
    sizes = Counter(rows.groups)
    taken: set[str] = set()
    room = max_rows
    # Files are often sorted, so that their first groups would be a biased sample; a hash's order is not.
    for group in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if sizes[group] <= room:
            taken.add(group)
            room -= sizes[group]
    if not taken:
        raise DataError(
            f"data.max_rows={max_rows} is less than the smallest group, and groups are taken whole; "
            f"raise it to {min(sizes.values())} at the least"
        )
    return rows.take(np.flatnonzero([group in taken for group in rows.groups]))


def require_evidence(rows: Rows, data: DataSettings) -> None:
    """Check that there are spans to learn and to be held against.

    Raises:
        DataError: no row has evidence.
    """
    if (rows.evidence[:, 0] == _NO_EVIDENCE).all():
        columns = data.columns
        raise DataError(
            f"{data.path} holds no evidence, which this task learns to find; fill in the columns"
            f" {columns.evidence_start!r} and {columns.evidence_end!r}, name them otherwise with"
            " data.columns.evidence_start and data.columns.evidence_end, or set task.name=criteria"
        )


def _require_learnable(rows: Rows, data: DataSettings) -> None:
    what = data.path if data.max_rows is None else f"{data.path} cut to data.max_rows={data.max_rows}"
    more = "add rows" if data.max_rows is None else "raise data.max_rows"
    groups = len(set(rows.groups))
    if groups < _FEWEST_GROUPS:
        raise DataError(
            f"{what} holds {groups} group(s), and training, validation and test need one each at the least; "
            f"{more}, or name the column of finer groups with data.columns.group_id"
        )
    present = np.unique(rows.labels)
    if len(present) < 2:
        raise DataError(f"{what} holds only the class {present[0]}, so there is nothing to learn; {more} of another")


def _listed(columns: list[str]) -> str:
    """Names of columns for a message: of a file that is something else, the first line may be all of it."""
    rest = len(columns) - _LISTED_COLUMNS
    named = ", ".join(map(reprlib.repr, columns[:_LISTED_COLUMNS]))
    return f"{named} and {rest} more" if rest > 0 else named


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
