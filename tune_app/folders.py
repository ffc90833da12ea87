"""Folders that a command writes to: made, tried, and taken away again where nothing came into them."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.machine import machine_folder
from trainables.scratch import temporary_folder
from tune_app.errors import UserError, foreign_refused


def check_own_folders() -> None:
    """Refuse to work where another user prepared our folders: of what this machine knows, and for temporary files.

    Raises:
        UserError: naming the folder and its owner.
    """
    with foreign_refused():
        temporary_folder()
        machine_folder()


@contextmanager
def made_folder(folder: Path, setting: str, *, traces: Collection[str] = ()) -> Iterator[None]:
    """Make a folder, or see that it can be written; what was made and is empty at the end is taken away again.

    Args:
        setting: that names it, for the message.
        traces: files that do not count as something in it.

    Raises:
        UserError: it cannot be made or written.
    """
    # os.path's own takes any text: a name too long for a folder, say.
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
