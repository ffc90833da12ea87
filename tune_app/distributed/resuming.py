"""Choice of the checkpoint that a trial resumes from: its newest undamaged one, or none."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType
from ray import tune

from tune_app.study.checkpoints import CheckpointStorage

# Errors that mean the checkpoint itself is gone or unreadable; all other errors concern the storage.
_GONE = (FileNotFoundError, NotADirectoryError, PermissionError)


@dataclass(frozen=True)
class Resumed:
    """Checkpoint that a trial resumes from.

    Attributes:
        folder: folder that holds the checkpoint; None if the trial starts from its beginning.
        passed_over: reason, for a person, why this is not the newest checkpoint; None if it is.
    """

    folder: Path | None = None
    passed_over: str | None = None


def resumed(
    newest: tune.Checkpoint | None, recorded: Sequence[str], storage: CheckpointStorage, scratch: Path
) -> Resumed:
    """Fetch the newest undamaged checkpoint of a trial.

    Args:
        newest: Ray's checkpoint of a trial that it paused or runs again; None if an earlier search left the trial.
        recorded: checkpoints that the study named when the trial was launched, the newest first.
        scratch: folder of this trial for fetched checkpoints.

    Raises:
        OSError: the storage does not answer.
    """
    problems: list[str] = []
    for filesystem, path in _candidates(newest, recorded, storage):
        folder = scratch / f"resumed-{len(problems)}"
        problem = _fetch(filesystem, path, folder)
        if problem is None:
            return Resumed(folder, _with_reason(problems, f"it resumes from {_name(path)}"))
        shutil.rmtree(folder, ignore_errors=True)
        problems.append(f"its checkpoint {_name(path)} cannot be used ({problem})")
    return Resumed(None, _with_reason(problems, "it starts again from the beginning"))


def _candidates(
    newest: tune.Checkpoint | None, recorded: Sequence[str], storage: CheckpointStorage
) -> Iterator[tuple[FileSystem, str]]:
    """Yield each checkpoint of the trial that may still exist, once, the newest first."""
    seen: set[str] = set()
    if newest is not None:
        # An older checkpoint that still exists is that of the trial's best epoch.
        filesystem: FileSystem = newest.filesystem
        folder, _, name = newest.path.rpartition("/")
        entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        older = [info.path for info in entries if info.type == FileType.Directory and info.base_name < name]
        seen = {newest.path, *older}
        yield from ((filesystem, path) for path in (newest.path, *sorted(older, reverse=True)))
    for filesystem, path in map(storage.find, recorded):
        if path not in seen:
            yield filesystem, path


def _fetch(filesystem: FileSystem, path: str, folder: Path) -> str | None:
    """Copy a checkpoint, and return its damage; None if it is whole."""
    # The trial trains and needs torch anyway, so importing it here costs nothing extra.
    from trainables.training.checkpoint import damage_of

    try:
        tune.Checkpoint(path, filesystem).to_directory(str(folder))
    except _GONE as error:
        return "it is gone" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
    return damage_of(folder)


def _name(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])


def _with_reason(problems: Sequence[str], what: str) -> str | None:
    return f"{problems[0]}; {what}" if problems else None
