"""Temporary folders that are cleaned up however their process ends: by itself, or else by the next one that needs one.

They lie in one private folder of the user. The process that works with one holds a lock on it, which the kernel
releases at its death.
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
    """Return the user's private folder for temporary files, made where it is missing.

    Args:
        around: folder that it lies in; None takes the machine's for temporary files (``TMPDIR``).

    Raises:
        NotOursError: another user owns it.
        OSError: it cannot be made.
    """
    return private_folder(Path(around or tempfile.gettempdir(), f"headroom-{os.getuid()}"), "TMPDIR")


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder that is removed at the end; those that killed processes left are removed first.

    Args:
        purpose: begins its name.
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
    """Mark a folder as in use until the descriptor that is returned is closed, at this process's death at the latest.

    Raises:
        BlockingIOError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def take_abandoned(root: Path, pattern: str, *, unused_s: float = 0.0) -> dict[Path, int]:
    """Hold the folders that no process holds any more, for ``remove_taken``.

    Args:
        pattern: of their names.
        unused_s: leaves those alone that were changed within so many seconds.
    """
    taken = {}
    for folder in root.glob(pattern):
        if folder.is_dir() and not folder.is_symlink() and time.time() - folder.stat().st_mtime >= unused_s:
            try:
                taken[folder] = hold(folder)
            except (BlockingIOError, FileNotFoundError):
                continue  # In use, or just removed by its own process.
    return taken


def remove_taken(taken: dict[Path, int]) -> None:
    for folder, descriptor in taken.items():
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
