"""Folders that a command writes to: created, checked, and deleted again if they stay empty."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.machine import machine_folder
from trainables.scratch import temporary_folder
from tune_app.errors import UserError, foreign_refused


def check_own_folders() -> None:
    """Refuse to work if another user owns headroom's folder for this machine's cache or for temporary files.

    Raises:
        UserError: another user owns a folder; the message names the folder and its owner.
    """
    with foreign_refused():
        temporary_folder()
        machine_folder()


@contextmanager
def made_folder(folder: Path, setting: str, *, traces: Collection[str] = ()) -> Iterator[None]:
    """Create a folder, or check that it is writable; delete it at the end if it was created and is still empty.

    Args:
        setting: setting that names the folder, for the message.
        traces: names of files that do not count as content.

    Raises:
        UserError: the folder cannot be created or written.
    """
    # Unlike Path.exists, os.path.exists accepts any text, such as a name too long for a folder.
    missing = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{setting}: {folder} cannot be written ({problem}); give another folder") from None
        yield
    finally:
        if folder in missing:
            _remove_if_empty(folder, missing, traces)


def _remove_if_empty(folder: Path, made: Collection[Path], traces: Collection[str]) -> None:
    with suppress(OSError):
        if set(os.listdir(folder)) <= set(traces):
            for name in traces:
                (folder / name).unlink(missing_ok=True)
    for place in made:
        with suppress(OSError):
            place.rmdir()
