"""Files that several processes share: locks that die with their holder, files and folders that appear whole or not.

Caches carry checksums, so that a cache damaged later is built again instead of believed.
"""

import fcntl
import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainables.private import open_unlinked

# Not hidden: hidden files are not copied to the nodes of a cluster.
_SEAL_FILE = "checksums.json"
_CHUNK_BYTES = 2**20

Stamp = tuple[int, int, int, int]


class DamagedError(ValueError):
    """A cache does not hold the content that was written to it."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes. The kernel owns it, so the death of its holder releases it too.

    Raises:
        NotOursError: the lock file is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_unlinked(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all; the last of several concurrent writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as building:
        building.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which replaces ``path`` at the end, or vanishes if the block raises."""
    building = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        yield building
        os.replace(building, path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to, which replaces ``folder`` at the end, or vanishes if the block raises.

    The caller must be the only writer of ``folder``, by a lock if need be. A half-written folder beside it therefore
    belongs to a killed process, and is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def sealed_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder as ``whole_folder`` does, and store checksums of its files beside them for ``check_sealed``."""
    with whole_folder(folder) as partial:
        yield partial
        (partial / _SEAL_FILE).write_text(json.dumps(_checksums(partial)), encoding="utf-8")


def check_sealed(folder: Path) -> None:
    """Check that a folder holds what ``sealed_folder`` wrote. An unchanged file is read once per process.

    Raises:
        DamagedError: a file is missing, changed or new, or the folder was not sealed.
        OSError: the folder does not exist or cannot be read.
    """
    try:
        sealed = json.loads((folder / _SEAL_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{folder / _SEAL_FILE} is damaged") from error
    if sealed != _checksums(folder):
        raise DamagedError(f"{folder} does not hold what was written there")


def write_checked(path: Path, value: Any) -> None:
    """Write a JSON value with its checksum; readers see it whole or not at all."""
    write_whole(path, json.dumps({"checksum": checksum(value), "value": value}))


def read_checked(path: Path) -> Any:
    """Return the value that ``write_checked`` wrote.

    Raises:
        DamagedError: the file holds something else.
        OSError: the file does not exist or cannot be read.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        value, written = stored["value"], stored["checksum"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is damaged") from error
    if checksum(value) != written:
        raise DamagedError(f"{path} does not hold what was written there")
    return value


def checksum(value: Any) -> int:
    """Return the checksum of a JSON value."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def stamp_of(path: Path) -> Stamp:
    """Return a file's inode, size and times, which change whenever the file is replaced or written.

    Raises:
        OSError: the file does not exist.
    """
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _checksums(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _SEAL_FILE)
    return {path.relative_to(folder).as_posix(): _file_checksum(path, stamp_of(path)) for path in files}


@lru_cache(maxsize=1024)
def _file_checksum(path: Path, stamp: Stamp) -> int:
    total = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            total = zlib.crc32(chunk, total)
    return total
