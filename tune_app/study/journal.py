"""Optuna's journal on a local file, for one writer and many readers, with several records in one write.

The file's format is Optuna's own (one JSON object a line), so its dashboard and ``load_study`` can read it. This
backend differs from Optuna's in three ways. The lock is the kernel's, so a killed process never holds it. A last line
torn by a kill is removed before the next one is written. The records of one trial's end reach the disk in one write.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from tune_app.errors import StorageError

Record = dict[str, Any]


class JournalFile(BaseJournalBackend):
    """Journal backend that appends records to one file. Readers need no lock and ignore a torn last line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            path.touch()
        self._identity = _identity_of(os.stat(path))
        # The tracking thread reads while the main thread's records are held back or written.
        self._guard = threading.Lock()
        # Number of records and bytes read so far, where reading continues.
        self._read_records = 0
        self._read_bytes = 0
        self._held_back: list[Record] | None = None
        # Records that another program (a dashboard, say) wrote before ours, which were held back, reached the file.
        self._overtaken: list[Record] = []

    def read_logs(self, log_number_from: int) -> Iterator[Record]:
        with self._guard:
            return iter(self._read(log_number_from))

    def _read(self, log_number_from: int) -> list[Record]:
        if self._held_back is not None:
            # The file is not read meanwhile: other programs' records are read when ours are written.
            return self._held_back[log_number_from - self._read_records :]
        records: list[Record] = []
        if self._overtaken and log_number_from == self._read_records - len(self._overtaken):
            records, self._overtaken = self._overtaken, []
        elif log_number_from < self._read_records:
            self._read_records = self._read_bytes = 0
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            raise self._lost("is gone") from None
        with file:
            file.seek(self._read_bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_bytes += len(line)
                self._read_records += 1
                if self._read_records > log_number_from:
                    records.append(json.loads(line))
        return records

    def append_logs(self, logs: list[Record]) -> None:
        # Encode even if the records are held back: an invalid record must fail before it counts as written.
        data = _encoded(logs)
        if self._held_back is not None:
            self._held_back += logs
            return
        with self._locked() as descriptor:
            self._append(descriptor, data)

    @contextmanager
    def one_write(self) -> Iterator[None]:
        """Write the records appended in the block in one write at its end.

        They are written even if the block raises, since Optuna has applied them already.
        """
        if self._held_back is not None:
            yield
            return
        with self._locked() as descriptor:
            self._held_back = []
            try:
                yield
            finally:
                with self._guard:
                    self._flush(descriptor)

    def _flush(self, descriptor: int) -> None:
        records, self._held_back = self._held_back or [], None
        foreign = os.pread(descriptor, os.fstat(descriptor).st_size - self._read_bytes, self._read_bytes)
        self._overtaken = [json.loads(line) for line in foreign.splitlines()]
        # Optuna has applied our records already, so reading continues after them.
        self._read_bytes = self._append(descriptor, _encoded(records))
        self._read_records += len(self._overtaken) + len(records)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Lock the file for writing.

        Raises:
            StorageError: the file is gone, was replaced, or is shorter than the part already read. New records would
                not continue what was read.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            raise self._lost("is gone") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            status = os.fstat(descriptor)
            if _identity_of(status) != self._identity:
                raise self._lost("was replaced by another file")
            if status.st_size < self._read_bytes:
                raise self._lost("was cut short")
            _cut_torn_line(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def _lost(self, how: str) -> StorageError:
        return StorageError(
            f"{self._path} {how}: it holds the study, which cannot go on without it; restore it and run the same"
            " command again"
        )

    @staticmethod
    def _append(descriptor: int, data: bytes) -> int:
        """Append the data, flush it to disk, and return the file's size."""
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _encoded(records: list[Record]) -> bytes:
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)


def _cut_torn_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            os.ftruncate(descriptor, start + newline + 1)
            return
        end = start
    os.ftruncate(descriptor, 0)
