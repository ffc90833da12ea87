"""Temporary folders that are always removed: by their own process, or else by the next process that needs one.

They lie in one private folder of the user. The process that uses a folder holds a lock on it, which the kernel releases
at the process's death.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.files import locked
from trainables.private import private_folder

_LOCK_FILE = "lock"


def temporary_folder(around: str | None = None) -> Path:
    """Return the user's private folder for temporary files; make it if it is missing.

    Args:
        around: the parent folder; None uses the machine's folder for temporary files (``TMPDIR``).

    Raises:
        NotOursError: another user owns the folder.
        OSError: the folder cannot be made.
    """
    return private_folder(Path(around or tempfile.gettempdir(), f"headroom-{os.getuid()}"), "TMPDIR")


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder that is removed at the end; first remove those that killed processes left.

    Args:
        purpose: prefix of the folder's name.
    """
    root = temporary_folder()
    with locked(root / _LOCK_FILE):
        abandoned = take_abandoned(root, f"{purpose}-*")
        folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=root))
        held = hold(folder)
    remove_taken(abandoned)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def hold(folder: Path) -> int:
    """Mark a folder as in use until the returned descriptor is closed, at the latest at this process's death.

    Raises:
        BlockingIOError: another process holds the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def take_abandoned(root: Path, pattern: str, *, unused_s: float = 0.0) -> dict[Path, int]:
    """Hold the folders that no process holds any more, and return them for ``remove_taken``.

    Args:
        pattern: pattern of their names.
        unused_s: skip folders that changed within this many seconds.
    """
    taken = {}
    for folder in root.glob(pattern):
        try:
            if folder.is_dir() and not folder.is_symlink() and time.time() - folder.stat().st_mtime >= unused_s:
                taken[folder] = hold(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # The folder is in use, or its own process has just removed it.
    return taken


def remove_taken(taken: dict[Path, int]) -> None:
    for folder, descriptor in taken.items():
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
