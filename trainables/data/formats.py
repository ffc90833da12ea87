"""Readers of data files into frames: CSV with any delimiter, JSONL and Parquet, each of them gzipped or not."""

import codecs
import csv
import gzip
import io
import json
import os
import re
import reprlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trainables.data.errors import DataError, one_line

_DELIMITERS = (",", ";", "\t", "|")
READABLE_CHARACTERS = 100_000
"""Length of a text that csv reads whatever its limit: below its longest field."""

_HEAD_LINES = 100
_LONGEST_FIELD = 2**31 - 1
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_SNIFFED_BYTES = 4096
_SEP_LINE = re.compile(r'"?sep=([,;|:\t])"?', re.IGNORECASE)


@dataclass(frozen=True)
class CsvForm:
    """The format of a CSV file.

    Attributes:
        names: the column names of the header, without surrounding blanks.
        is_padded: whether blanks stand between delimiters and cells.
        has_sep_line: whether the first line is ``sep=`` and the delimiter, as spreadsheets write it.
    """

    path: Path
    encoding: str
    is_gzipped: bool
    delimiter: str
    names: tuple[str, ...]
    is_padded: bool
    has_sep_line: bool

    def lines_of(self, row: int) -> tuple[int, int]:
        """Return the first and last line of a row. Rows and lines count from 1; blank lines are no rows."""
        with _any_field_size(), _text_stream(self.path, self.encoding, self.is_gzipped) as stream:
            if self.has_sep_line:
                next(stream)
            records = csv.reader(stream, delimiter=self.delimiter, skipinitialspace=self.is_padded)
            before = number = 0
            for record in records:
                # The header is the record before the first row.
                number += bool(record)
                if number == row + 1:
                    break
                before = records.line_num
            return before + 1 + self.has_sep_line, records.line_num + self.has_sep_line


@dataclass(frozen=True)
class DataFile:
    """The cells of a file as read, one row each; ``csv`` is None for other formats."""

    frame: pd.DataFrame
    csv: CsvForm | None = None


def read_file(source: str, expected: Sequence[str]) -> DataFile:
    """Read a data file in the format that its suffix names.

    Args:
        expected: column names that identify a CSV file's delimiter.

    Raises:
        DataError: the file does not exist, or its content does not match its suffix.
    """
    file = locate(source)
    with readable(source):
        return _READERS[file.suffix](file.path, file.is_gzipped, expected)


@dataclass(frozen=True)
class Located:
    """A data file that exists: its format's suffix, in lower case and without ``.gz``, and whether it is compressed."""

    path: Path
    suffix: str
    is_gzipped: bool


def locate(source: str) -> Located:
    """Find a data file and its format.

    Raises:
        DataError: the file does not exist or cannot be read, or its suffix names no format.
    """
    path = Path(source)
    # Unlike Path's methods, these accept any text: a name too long for a file, a folder without access.
    if os.path.isdir(path):
        raise DataError(f"{source}: is a folder; give the file in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{source}: is a pipe, a socket or a device, not a file; write its rows to a file first")
    if not os.path.isfile(path):
        raise DataError(f"{source}: there is no such file; correct the path")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else path.suffix.lower()
    if suffix not in _READERS:
        raise DataError(
            f"{source}: the suffix {path.suffix!r} is not one of {', '.join(_READERS)} (or one of these and .gz); "
            "convert the file to one of them, or rename it if it is one"
        )
    with readable(source):
        return Located(path, suffix, _starts_with(path, _GZIP))


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Report any failure to read a file in the block as bad data.

    Raises:
        DataError: the file is not UTF-8, damaged or not readable.
    """
    try:
        yield
    except UnicodeError as error:
        byte = (
            f" (it holds the byte 0x{error.object[error.start]:02x})" if isinstance(error, UnicodeDecodeError) else ""
        )
        raise DataError(f"{source} is not UTF-8{byte}; save it as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{source} is a damaged gzip file: {one_line(error)}; compress it again") from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {one_line(error)}; make it readable, or give a copy") from error


@contextmanager
def _any_field_size() -> Iterator[None]:
    """Let csv read fields of any size within the block; the limit applies to the whole process."""
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def suffix_of_content(file: Path) -> str:
    """Return the suffix for a file by its beginning: Parquet and JSON are recognised, anything else is CSV."""
    with gzip.open(file) if _starts_with(file, _GZIP) else file.open("rb") as stream:
        head = stream.read(_SNIFFED_BYTES)
    if head.startswith(_PARQUET):
        return ".parquet"
    return ".jsonl" if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") else ".csv"


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _text_stream(path: Path, encoding: str, is_gzipped: bool, errors: str = "strict") -> io.TextIOBase:
    if is_gzipped:
        return gzip.open(path, "rt", encoding=encoding, errors=errors, newline="")
    return path.open(encoding=encoding, errors=errors, newline="")


def _read_csv(path: Path, is_gzipped: bool, expected: Sequence[str]) -> DataFile:
    form = csv_form(path, is_gzipped, expected)
    with _proper_csv(form):
        try:
            frame: pd.DataFrame = pd.read_csv(path, **_csv_options(form), dtype=str)
        except pd.errors.EmptyDataError:
            return DataFile(pd.DataFrame(), form)
        return DataFile(_with_header(frame, form), form)


def csv_chunks(form: CsvForm, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the frames of a CSV file, ``rows`` rows each, all cells as strings.

    Bytes that are not UTF-8 arrive as half surrogate pairs (``surrogateescape``), so that the row can be named.

    Raises:
        DataError: the file is not a proper CSV file.
    """
    with _proper_csv(form):
        # Strings of Arrow cannot hold those surrogates.
        options = _csv_options(form) | {"dtype": object, "encoding_errors": "surrogateescape", "chunksize": rows}
        try:
            reader = pd.read_csv(form.path, **options)
        except pd.errors.EmptyDataError:
            return
        with reader:
            for frame in reader:
                yield _with_header(frame, form)


def _csv_options(form: CsvForm) -> dict[str, Any]:
    """Return options that read everything as strings: a text "NA" is a text, and each cell is parsed later."""
    return {
        "keep_default_na": False,
        "encoding": form.encoding,
        "sep": form.delimiter,
        "skipinitialspace": form.is_padded,
        "skiprows": int(form.has_sep_line),
        "compression": "gzip" if form.is_gzipped else None,
    }


@contextmanager
def _proper_csv(form: CsvForm) -> Iterator[None]:
    try:
        yield
    except pd.errors.ParserError as error:
        remedy = _quoting_remedy(form)
        if "EOF inside string" in str(error):
            remedy = "a quote is opened and never closed; close it, or double it where it belongs to a text"
        raise DataError(f"{form.path} is not a proper CSV file: {one_line(error)}; {remedy}") from error


def _with_header(frame: pd.DataFrame, form: CsvForm) -> pd.DataFrame:
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{form.path}: the rows hold more fields than the header names; {_quoting_remedy(form)}")
    # pandas renames a repeated column, so the header is checked here.
    names = Counter(form.names)
    repeated = [name for name in names if name and names[name] > 1]
    if repeated:
        raise DataError(
            f"{form.path}: the column {repeated[0]!r} occurs {names[repeated[0]]} times in the header; keep one"
        )
    frame.columns = frame.columns.str.strip()
    return frame


def _quoting_remedy(form: CsvForm) -> str:
    return "quote fields that hold " + {",": "commas", ";": "semicolons", "\t": "tabs"}.get(form.delimiter, "bars")


def csv_form(path: Path, is_gzipped: bool, expected: Sequence[str]) -> CsvForm:
    """Detect the format of a CSV file from its beginning.

    Args:
        expected: column names that identify the delimiter.

    Raises:
        DataError: the header stands below a title.
    """
    with gzip.open(path) if is_gzipped else path.open("rb") as file:
        start = file.read(2)
    # A byte order mark tells the encoding: Excel's "Unicode text" is UTF-16.
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    # The reader of the rows reports what is not UTF-8, where it can name the row.
    with _text_stream(path, encoding, is_gzipped, "surrogateescape") as stream:
        head = stream.read(READABLE_CHARACTERS)
    first, _, rest = head.partition("\n")
    sep_line = _SEP_LINE.fullmatch(first.rstrip("\r"))
    if sep_line:
        head = rest
    delimiter = sep_line[1] if sep_line else _delimiter(head, expected)
    _require_header_first(path, head, expected)
    padded = _header(head, delimiter, skips_blanks=False)[1:]
    return CsvForm(
        path,
        encoding,
        is_gzipped,
        delimiter,
        tuple(name.strip() for name in _header(head, delimiter)),
        is_padded=any(name.startswith(" ") for name in padded),
        has_sep_line=sep_line is not None,
    )


def _require_header_first(path: Path, head: str, expected: Sequence[str]) -> None:
    """Reject a file whose header stands below a title or a comment.

    Raises:
        DataError: the first line names no expected column, and a later one names two.
    """
    first, *others = [line for line in head.splitlines() if line.strip()][:_HEAD_LINES] or [""]
    if _worth(first, _delimiter(first, expected), expected)[0]:
        return
    for line in others:
        if _worth(line, _delimiter(line, expected), expected)[0] > 1:
            raise DataError(
                f"{path}: its first line, {reprlib.repr(first)}, is above the line with the columns' names,"
                f" {reprlib.repr(line)}; remove everything above that line"
            )


def _delimiter(head: str, expected: Sequence[str]) -> str:
    """Return the delimiter that gives the header most of the expected names, else the most names; a comma on a tie."""
    return max(_DELIMITERS, key=lambda delimiter: _worth(head, delimiter, expected))


def _worth(head: str, delimiter: str, expected: Sequence[str]) -> tuple[int, int]:
    """Return how many expected names and how many names the header has with a delimiter."""
    names = {name.strip().lower() for name in _header(head, delimiter)}
    return len(names & {name.lower() for name in expected}), len(names)


def _header(head: str, delimiter: str, *, skips_blanks: bool = True) -> list[str]:
    """Return the fields of the first line that is not blank."""
    records = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, skipinitialspace=skips_blanks)
    return next((record for record in records if record), [])


def _read_jsonl(path: Path, is_gzipped: bool, expected: Sequence[str]) -> DataFile:
    records: list[dict[str, object]] = []
    with _text_stream(path, "utf-8-sig", is_gzipped) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                records.append(json_object(line, f"{path}: line {number}"))
    names = dict.fromkeys(name for record in records for name in record)
    return DataFile(
        pd.DataFrame({name: pd.Series([record.get(name) for record in records], dtype=object) for name in names})
    )


def json_object(line: str, where: str) -> dict[str, object]:
    """Return the object of a line; ``where`` names the line in messages.

    Raises:
        DataError: the line holds no JSON object.
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error.msg}); write one object per line") from error
    except (ValueError, RecursionError) as error:
        # A number with thousands of digits, or values nested too deeply.
        raise DataError(f"{where} cannot be read ({one_line(error)}); write only texts and numbers") from None
    if not isinstance(record, dict):
        raise DataError(f"{where} holds {reprlib.repr(record)}, not an object; write one object per line")
    return record


def _read_parquet(path: Path, is_gzipped: bool, expected: Sequence[str]) -> DataFile:
    try:
        table = pq.read_table(io.BytesIO(gzip.decompress(path.read_bytes())) if is_gzipped else path)
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a proper Parquet file: {one_line(error)}; write it again") from error
    # Arrow's types keep integers as integers beside nulls; pandas' own metadata would hide an index column.
    return DataFile(table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True))


_Reader = Callable[[Path, bool, Sequence[str]], DataFile]
_READERS: dict[str, _Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
