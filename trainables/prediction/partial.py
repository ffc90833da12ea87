"""An output file in the making, beside the file that it becomes: it survives its process, and can be continued."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data.errors import DataError
from trainables.files import read_checked, write_checked
from trainables.private import open_unlinked


@dataclass(frozen=True)
class Progress:
    """How far an output file is.

    Attributes:
        rows: number of input rows whose predictions it holds.
        size_bytes: size of the file then; what lies behind it was cut off.
        digest: digest of these input rows.
    """

    rows: int = 0
    size_bytes: int = 0
    digest: str = ""


class Partial:
    """The unfinished file of a target, and its progress in a file beside it. Get one from ``opened_partial``.

    Attributes:
        progress: the progress so far.
    """

    def __init__(self, target: Path, descriptor: int, run: Mapping[str, Any], progress: Progress) -> None:
        self.progress = progress
        self._target = target
        self._descriptor = descriptor
        self._run = run

    def append(self, data: bytes, rows: int, digest: str) -> None:
        """Append bytes, after which the file holds the predictions of ``rows`` input rows.

        Raises:
            OSError: they cannot be written.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        # The progress may not reach the disk before the rows.
        os.fsync(self._descriptor)
        self.progress = Progress(rows, self.progress.size_bytes + len(data), digest)
        write_checked(progress_file(self._target), {"run": dict(self._run), **vars(self.progress)})

    @property
    def path(self) -> Path:
        """Path of the unfinished file."""
        return partial_file(self._target)


def partial_file(target: Path) -> Path:
    """Return the path of the unfinished file of a target."""
    return target.with_name(f".{target.name}.partial")


def progress_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.progress")


@contextmanager
def opened_partial(target: Path, run: Mapping[str, Any], *, resume: bool) -> Iterator[Partial]:
    """Yield the unfinished file of a target; begin it anew unless ``resume`` is set and there is one.

    The file stays where it is at the end; ``discard`` removes it.

    Args:
        run: everything that the output depends on beside the input rows, as JSON values.

    Raises:
        DataError: another process writes the file, or it was begun by another run or is damaged.
        OSError: the file cannot be written.
    """
    descriptor = open_unlinked(partial_file(target), os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"--out: another run is writing {target}; wait for it, or name another file") from None
        progress = _stored(target, run) if resume else Progress()
        size_bytes = os.fstat(descriptor).st_size
        if not size_bytes:
            # The process died between the last step, where the file became the target, and the end.
            progress = Progress()
        if size_bytes < progress.size_bytes:
            raise DataError(f"--resume: {partial_file(target)} is shorter than it was; begin anew without --resume")
        os.ftruncate(descriptor, progress.size_bytes)
        os.lseek(descriptor, 0, os.SEEK_END)
        yield Partial(target, descriptor, run, progress)
    finally:
        os.close(descriptor)


def discard(target: Path) -> None:
    """Remove what is left of an unfinished file."""
    partial_file(target).unlink(missing_ok=True)
    progress_file(target).unlink(missing_ok=True)


def _stored(target: Path, run: Mapping[str, Any]) -> Progress:
    try:
        stored = read_checked(progress_file(target))
    except FileNotFoundError:
        return Progress()
    except (OSError, ValueError) as error:
        raise DataError(f"--resume: {progress_file(target)} is damaged; begin anew without --resume") from error
    before = stored.pop("run")
    # Compare as JSON gives it back: a tuple is a list there.
    for name, value in json.loads(json.dumps(dict(run))).items():
        if before.get(name) != value:
            raise DataError(
                f"--resume: {target} was begun with another {name}; begin anew without --resume, or give what was given"
                " then"
            )
    return Progress(**stored)
