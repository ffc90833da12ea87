"""Rows of a data file of any size, window by window, with every cell as it stands in the file."""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data.errors import DataError, one_line
from trainables.data.formats import csv_chunks, csv_form, json_object, locate, readable

WINDOW_ROWS = 1024
"""Rows of a window: enough to sort by length, and little memory and little time to lose."""

_JSON = (".jsonl", ".ndjson")

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive rows of a file.

    Attributes:
        first: number of the first row, counted from 1.
        records: column → cell, one for each row; a row of JSONL may lack columns.
        faults: place in ``records`` → why the row cannot be read.
        batch: the same rows with Arrow's types; None unless the file is Parquet.
    """

    first: int
    records: Sequence[Record]
    faults: dict[int, str] = field(default_factory=dict)
    batch: pa.RecordBatch | None = None

    def __len__(self) -> int:
        return len(self.records)


class RowFile:
    """A data file: CSV with any delimiter, JSONL or Parquet, each of them gzipped or not.

    Attributes:
        source: name of the file in messages.

    Args:
        source: path of the file; its suffix names the format.
        expected: column names that identify a CSV file's delimiter.
        called: name in messages instead of ``source``.
        scratch: folder for the unpacked copy of a gzipped Parquet file, which can only be read whole.

    Raises:
        DataError: the file does not exist, or is not what its suffix says.
    """

    def __init__(self, source: str, expected: Sequence[str], *, scratch: Path, called: str | None = None) -> None:
        self.source = called or source
        self._file = locate(source)
        self._expected = expected
        self._parquet = self._file.path
        if self._file.suffix == ".parquet" and self._file.is_gzipped:
            self._parquet = scratch / "input.parquet"
            with readable(self.source), gzip.open(self._file.path) as packed, self._parquet.open("wb") as unpacked:
                while chunk := packed.read(2**20):
                    unpacked.write(chunk)

    def windows(self) -> Iterator[Window]:
        """Yield the rows from the first on, in windows of the same bounds at every call.

        Raises:
            DataError: the file is damaged or not of its format. A single bad row is a fault of its window instead.
        """
        readers = {**dict.fromkeys(_JSON, self._json_windows), ".parquet": self._parquet_windows}
        with readable(self.source):
            yield from readers.get(self._file.suffix, self._csv_windows)()

    @property
    def titles(self) -> dict[str, str]:
        """Column → its name in the file's header; the two differ where the header has no name. Empty for JSONL."""
        if self.schema is not None:
            return {name: name for name in self.schema.names}
        if self._file.suffix in _JSON:
            return {}
        with readable(self.source):
            names = csv_form(self._file.path, self._file.is_gzipped, self._expected).names
        # pandas calls a nameless column by its place.
        return {name or f"Unnamed: {place}": name for place, name in enumerate(names)}

    @property
    def schema(self) -> pa.Schema | None:
        """Arrow's types of the columns; None unless the file is Parquet."""
        return self._opened_parquet().schema_arrow if self._file.suffix == ".parquet" else None

    def _csv_windows(self) -> Iterator[Window]:
        form = csv_form(self._file.path, self._file.is_gzipped, self._expected)
        first = 1
        for frame in csv_chunks(form, WINDOW_ROWS):
            names = [str(name) for name in frame.columns]
            columns = [frame.iloc[:, place].tolist() for place in range(len(names))]
            records = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
            faults = {}
            for place, record in enumerate(records):
                if fault := _not_utf8(record):
                    faults[place] = fault
            yield Window(first, records, faults)
            first += len(records)

    def _json_windows(self) -> Iterator[Window]:
        opened = gzip.open if self._file.is_gzipped else open
        first, records, faults = 1, list[Record](), dict[int, str]()
        with opened(self._file.path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not text.strip():
                    continue
                try:
                    records.append(json_object(text.decode(), f"line {number}"))
                except UnicodeDecodeError as error:
                    faults[len(records)] = (
                        f"is not UTF-8 (it holds the byte 0x{text[error.start]:02x}); save it as UTF-8"
                    )
                    records.append({})
                except DataError as error:
                    faults[len(records)] = str(error)
                    records.append({})
                if len(records) == WINDOW_ROWS:
                    yield Window(first, records, faults)
                    first, records, faults = first + len(records), [], {}
        if records:
            yield Window(first, records, faults)

    def _parquet_windows(self) -> Iterator[Window]:
        first = 1
        with _proper_parquet(self.source):
            for batch in self._opened_parquet().iter_batches(WINDOW_ROWS, use_threads=False):
                yield Window(first, batch.to_pylist(), batch=batch)
                first += batch.num_rows

    def _opened_parquet(self) -> pq.ParquetFile:
        with _proper_parquet(self.source):
            # Buffering ahead would hold a whole row group.
            return pq.ParquetFile(self._parquet, pre_buffer=False, buffer_size=2**20)


@contextmanager
def _proper_parquet(source: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise DataError(f"{source} is not a proper Parquet file: {one_line(error)}; write it again") from error


def _not_utf8(record: Record) -> str | None:
    """Return the fault of a row with bytes that are not UTF-8, which the reader left as half surrogate pairs."""
    for name, cell in record.items():
        if cell.isascii():
            continue
        byte = next((ord(sign) - 0xDC00 for sign in cell if "\udc80" <= sign <= "\udcff"), None)
        if byte is not None:
            return f"column {name!r}: is not UTF-8 (it holds the byte 0x{byte:02x}); save the file as UTF-8"
    return None
