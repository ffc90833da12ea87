"""Formats of predictions: each encodes a window of rows as bytes that can be appended to a file."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data.streams import Window
from trainables.files import whole_file
from trainables.prediction.columns import Columns

Kinds = Mapping[str, type]
"""Column that predictions add → type of its cells: str, int or float; any cell may be missing."""

_ROW_GROUP_BYTES = 2**25
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}


class Output(Protocol):
    """A format of output files."""

    def header(self) -> bytes:
        """Return the beginning of the file."""
        ...

    def encode(self, window: Window, added: Columns) -> bytes:
        """Return the rows of a window, with the columns that predictions add."""
        ...

    def finish(self, partial: Path, target: Path) -> None:
        """Make ``target`` appear whole from a file that holds the header and every window."""
        ...


def output_for(suffix: str, titles: Mapping[str, str], schema: pa.Schema | None, added: Kinds) -> Output:
    """Return the format of a suffix of ``SUFFIXES``.

    Args:
        titles: column of the input → its name in the header of a CSV file.
        schema: types of the input's columns; None if they are not known.
        added: columns that predictions add.
    """
    if suffix == ".jsonl":
        return JsonlOutput()
    if suffix == ".parquet":
        return ParquetOutput(tuple(titles), schema, added)
    return CsvOutput(titles, tuple(added), is_gzipped=suffix == ".csv.gz")


@dataclass(frozen=True)
class CsvOutput:
    """CSV with commas, UTF-8 and one line feed after each row; each window of a gzipped file is a member of it."""

    titles: Mapping[str, str]
    added: Sequence[str]
    is_gzipped: bool = False

    def header(self) -> bytes:
        return self._packed([[*self.titles.values(), *self.added]])

    def encode(self, window: Window, added: Columns) -> bytes:
        columns = [added[name] for name in self.added]
        return self._packed(
            [
                [
                    *(_csv_cell(record.get(name)) for name in self.titles),
                    *(_csv_cell(column[place]) for column in columns),
                ]
                for place, record in enumerate(window.records)
            ]
        )

    def finish(self, partial: Path, target: Path) -> None:
        partial.replace(target)

    def _packed(self, rows: Sequence[Sequence[str]]) -> bytes:
        text = io.StringIO(newline="")
        # The writer quotes lone carriage returns only if its own line ends hold one.
        writer = csv.writer(_UnixLines(text), lineterminator="\r\n")
        writer.writerows(rows)
        data = utf8(text.getvalue())
        # Without a time stamp, equal rows give equal files.
        return gzip.compress(data, mtime=0) if self.is_gzipped else data


class _UnixLines:
    """Stream for ``csv.writer`` that ends each row with a line feed alone."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")


@dataclass(frozen=True)
class JsonlOutput:
    """One JSON object for each row."""

    def header(self) -> bytes:
        return b""

    def encode(self, window: Window, added: Columns) -> bytes:
        lines = [
            json.dumps(
                {**record, **{name: column[place] for name, column in added.items()}},
                ensure_ascii=False,
                default=_plain,
            )
            for place, record in enumerate(window.records)
        ]
        return utf8("".join(f"{line}\n" for line in lines))

    def finish(self, partial: Path, target: Path) -> None:
        partial.replace(target)


@dataclass(frozen=True)
class ParquetOutput:
    """Parquet, which can only be written whole: until then each window is a stream in Arrow's own format.

    Attributes:
        names: the input's columns.
        schema: the types of the input's columns, which they keep; None infers them.
    """

    names: Sequence[str]
    schema: pa.Schema | None
    added: Kinds

    def header(self) -> bytes:
        return b""

    def encode(self, window: Window, added: Columns) -> bytes:
        table = self._table(window)
        for name, kind in self.added.items():
            table = table.append_column(pa.field(name, _ARROW[kind]), pa.array(added[name], _ARROW[kind]))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())

    def finish(self, partial: Path, target: Path) -> None:
        schema = self._common_schema(partial)
        with whole_file(target) as building, pq.ParquetWriter(building, schema) as writer:
            waiting: list[pa.Table] = []
            for table in _tables(partial):
                waiting.append(_converted(table, schema))
                if sum(one.nbytes for one in waiting) >= _ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
        partial.unlink()

    def _table(self, window: Window) -> pa.Table:
        if window.batch is not None:
            return pa.Table.from_batches([window.batch])
        columns = {name: _arrow([record.get(name) for record in window.records]) for name in self.names}
        return pa.table(columns)

    def _common_schema(self, partial: Path) -> pa.Schema:
        """Return the types that hold every window; a column without a common type becomes text."""
        common: dict[str, pa.Field] = {name: pa.field(name, pa.null()) for name in self.names}
        if self.schema is not None:
            common = {field.name: field for field in self.schema}
        else:
            for table in _tables(partial):
                for field in table.schema:
                    if field.name in common:
                        common[field.name] = _common_field(common[field.name], field)
        added = [pa.field(name, _ARROW[kind]) for name, kind in self.added.items()]
        return pa.schema([*common.values(), *added], metadata=None if self.schema is None else self.schema.metadata)


def _tables(partial: Path) -> Iterator[pa.Table]:
    """Yield the streams that lie one after the other in a file."""
    size = partial.stat().st_size
    with pa.OSFile(str(partial)) as file:
        while file.tell() < size:
            yield pa.ipc.open_stream(file).read_all()


def _common_field(one: pa.Field, other: pa.Field) -> pa.Field:
    try:
        return pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive").field(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.field(one.name, pa.string())


def _converted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        column = table.column(field.name)
        if field.type == pa.string() and column.type not in (pa.string(), pa.null()):
            columns.append(
                pa.array([None if cell is None else _csv_cell(cell) for cell in column.to_pylist()], pa.string())
            )
        else:
            columns.append(column.cast(field.type))
    return pa.table(columns, schema=schema)


def _arrow(cells: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError, OverflowError):
        texts = [None if cell is None else utf8(_csv_cell(cell)).decode() for cell in cells]
        return pa.array(texts, pa.string())


def utf8(text: str) -> bytes:
    """Return a text as UTF-8, with a replacement character for every byte or surrogate that is none."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    # Undecodable bytes of the input are half surrogate pairs, one for each.
    return "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in text).encode()


def _csv_cell(cell: object) -> str:
    """Return a cell as text; a missing one is empty."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, dict | list):
        return json.dumps(cell, ensure_ascii=False, default=_plain)
    return str(_plain(cell)) if not isinstance(cell, int | float) else repr(cell)


def _plain(cell: object) -> object:
    """Return a value of Arrow for JSON: dates in ISO 8601, bytes and others as text."""
    if hasattr(cell, "isoformat"):
        return cell.isoformat()
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return str(cell)
