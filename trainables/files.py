"""Files that several processes share: locks that die with their holder, files and folders that appear whole or not.

Caches carry checksums, so that one damaged later is made again instead of believed.
"""

import fcntl
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainables.private import open_unlinked

# Not hidden: hidden files are not sent to the nodes of a cluster.
_SEAL_FILE = "checksums.json"
_CHUNK_BYTES = 2**20

Stamp = tuple[int, int, int, int]


class DamagedError(ValueError):
    """A cache does not hold what was written there."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it is the kernel's, so the death of its holder releases it too.

    Raises:
        NotOursError: a link stands in the place of its file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_unlinked(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all; of several writers at once the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(text)
    os.replace(file.name, path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to, which takes the place of ``folder`` at the end, or vanishes if the block raises.

    The caller is the only one who writes ``folder``, by a lock if need be: what stands half-written beside it is then
    that of a killed process, and is removed.
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
    """``whole_folder``, with the checksums of its files beside them for ``check_sealed``."""
    with whole_folder(folder) as partial:
        yield partial
        (partial / _SEAL_FILE).write_text(json.dumps(_checksums(partial)), encoding="utf-8")


def check_sealed(folder: Path) -> None:
    """See that a folder holds what ``sealed_folder`` wrote. A process reads a file that does not change once.

    Raises:
        DamagedError: a file is missing, changed or new, or the folder was not sealed.
        OSError: there is no such folder, or it cannot be read.
    """
    try:
        sealed = json.loads((folder / _SEAL_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{folder / _SEAL_FILE} is damaged") from error
    if sealed != _checksums(folder):
        raise DamagedError(f"{folder} does not hold what was written there")


def write_checked(path: Path, value: Any) -> None:
    """Write a JSON value with its checksum, whole or not at all."""
    write_whole(path, json.dumps({"checksum": checksum(value), "value": value}))


def read_checked(path: Path) -> Any:
    """Return the value that ``write_checked`` wrote.

    Raises:
        DamagedError: the file holds something else.
        OSError: there is no such file, or it cannot be read.
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
    """Return what changes whenever a file is replaced or written: its inode, size and times.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


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
