"""Where checkpoints lie, and which stay there: those of open trials, and the best one of each of the best trials."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from tune_app.errors import UserError, first_line, without_password_of
from tune_app.objectives import values_of

LATEST, BEST = "checkpoint", "best_checkpoint"
"""Attributes of a trial: where its newest checkpoint lies, to go on from, and that of its best epoch."""


@dataclass(frozen=True)
class CheckpointStorage:
    """A folder, or a place in a store that a URI names (``s3://…``, ``gs://…``), for the checkpoints of a study.

    A study knows its checkpoints by paths of the folder, or by URIs without what the store is reached by: keys and
    options stay in the configuration.
    """

    place: str

    def opened(self) -> tuple[FileSystem, str]:
        """The file system, and the path in it.

        Raises:
            UserError: the URI is none, or of a store that is not known.
        """
        try:
            filesystem, path = FileSystem.from_uri(self.place)
        except (ValueError, OSError) as error:
            why = without_password_of(self.place, first_line(error))
            raise UserError(
                f"checkpoint.dir: {self.place}: {why}; give a folder, or a URI such as s3://bucket/folder"
            ) from None
        return filesystem, str(path)

    def check(self) -> None:
        """See whether a file can be written there, and taken away again.

        Raises:
            UserError: it cannot.
        """
        filesystem, path = self.opened()
        tried = f"{path}/.tried-{uuid.uuid4().hex}"
        try:
            filesystem.create_dir(path, recursive=True)
            with filesystem.open_output_stream(tried):
                pass
            filesystem.delete_file(tried)
        except OSError as error:
            why = without_password_of(self.place, first_line(error))
            raise UserError(
                f"checkpoint.dir: {self.place} cannot be written ({why}); give another, or what it is reached with"
            ) from None

    def recorded(self, path: str) -> str:
        """What a study keeps of the path of a checkpoint in this storage."""
        scheme, sign, _ = self.place.partition("://")
        return f"{scheme}{sign}{path}" if sign and scheme != "file" else path

    def find(self, recorded: str) -> tuple[FileSystem, str]:
        """The file system and the path in it of a checkpoint as a study keeps it."""
        scheme, sign, path = recorded.partition("://")
        if not sign:
            return LocalFileSystem(), recorded
        if self.place.startswith(f"{scheme}://"):
            return self.opened()[0], path
        filesystem, path = FileSystem.from_uri(recorded)
        return filesystem, str(path)

    def holds(self, attributes: Mapping[str, Any], which: str) -> bool:
        """Whether the checkpoint that a trial's attributes name is still there."""
        if not attributes.get(which):
            return False
        filesystem, path = self.find(attributes[which])
        return bool(filesystem.get_file_info(path).type != FileType.NotFound)

    def delete(self, recorded: str) -> None:
        """Delete a checkpoint if it is there, and its trial's folder if nothing else is in it."""
        filesystem, path = self.find(recorded)
        if filesystem.get_file_info(path).type == FileType.NotFound:
            return
        filesystem.delete_dir(path)
        folder = path.rpartition("/")[0]
        # A store without folders has none to be left empty.
        left = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
        if not left and filesystem.get_file_info(folder).type == FileType.Directory:
            filesystem.delete_dir(folder)

    def delete_folder(self, name: str) -> None:
        """Delete a folder of the storage with all that is in it, and the storage's own if that was all.

        Raises:
            UserError: it cannot be deleted.
        """
        filesystem, path = self.opened()
        try:
            if filesystem.get_file_info(f"{path}/{name}").type == FileType.Directory:
                filesystem.delete_dir(f"{path}/{name}")
                if not filesystem.get_file_info(FileSelector(path)):
                    filesystem.delete_dir(path)
        except OSError as error:
            why = without_password_of(self.place, first_line(error))
            raise UserError(f"checkpoint.dir: {self.place}: its checkpoints cannot be deleted ({why})") from None


def remove_orphans(storage: CheckpointStorage, name: str, trials: Iterable[FrozenTrial]) -> None:
    """Delete checkpoints that no trial knows of: what a search was writing, or about to delete, when it was killed.

    Args:
        name: of the folder in the storage that holds the trials' folders.
        trials: all of the study, of which no search is running.
    """
    filesystem, place = storage.opened()
    recorded = (trial.user_attrs.get(key) for trial in trials for key in (LATEST, BEST))
    known = {_in_its_trial(path) for path in recorded if path}
    for folder in _folders(filesystem, f"{place}/{name}", "trial-"):
        checkpoints = _folders(filesystem, folder, "checkpoint_")
        orphans = [checkpoint for checkpoint in checkpoints if _in_its_trial(checkpoint) not in known]
        for checkpoint in orphans:
            filesystem.delete_dir(checkpoint)
        if orphans == checkpoints:
            # What Ray wrote beside them of a trial that failed is in the study.
            filesystem.delete_dir(folder)


def _in_its_trial(path: str) -> tuple[str, ...]:
    """The last two parts of a checkpoint's path, which tell it from all others; the rest changes when it is moved."""
    return tuple(path.rsplit("/", 2)[-2:])


def _folders(filesystem: FileSystem, folder: str, prefix: str) -> list[str]:
    found = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    return [info.path for info in found if info.type == FileType.Directory and info.base_name.startswith(prefix)]


class CheckpointKeeper:
    """Deletes checkpoints as soon as nothing needs them any more.

    Args:
        storage: where they lie.
        keep: the best so many complete trials, by the first objective, keep the checkpoint of their best epoch.
        trials: what the study holds already, so that a resumed search keeps the same ones.
    """

    def __init__(self, storage: CheckpointStorage, keep: int, trials: Sequence[FrozenTrial]) -> None:
        self._storage = storage
        self._keep = keep
        self._paths: dict[int, dict[str, str]] = {}
        self._ranked: list[tuple[float, int]] = []
        # Their end may have been told by a search that was killed before it could delete.
        self._ended = {trial.number for trial in trials if trial.state.is_finished()}
        for trial in trials:
            paths = {key: trial.user_attrs[key] for key in (LATEST, BEST) if trial.user_attrs.get(key)}
            if paths:
                self._paths[trial.number] = paths
            self._rank(trial)

    def add(self, number: int, checkpoint: Any, *, is_best: bool | None) -> dict[str, str]:
        """A trial has written a checkpoint; returns where its checkpoints are now, as attributes.

        Args:
            is_best: whether it is that of the trial's best epoch so far; None where no model of the trial is kept.
        """
        before = self._paths.get(number, {})
        written = self._storage.recorded(checkpoint.path)
        now = {**before, LATEST: written}
        if is_best or (is_best is False and BEST not in now):
            now[BEST] = written
        self._paths[number] = now
        self._delete(set(before.values()) - set(now.values()))
        return now

    def settle(self, trial: FrozenTrial) -> None:
        """A trial has ended: keep its best checkpoint if it is one of the best trials, and no others of it."""
        self._rank(trial)
        # Of equal values the earlier trial stays, as in the study's own order.
        self._ranked.sort(key=lambda item: (-item[0], item[1]))
        self._ended.add(trial.number)
        # A trial that is not among the best now never will be.
        del self._ranked[self._keep :]
        best = {number for _, number in self._ranked}
        for number in self._ended & self._paths.keys():
            paths = self._paths[number]
            wanted = {BEST: paths[BEST]} if number in best and BEST in paths else {}
            self._delete(set(paths.values()) - set(wanted.values()))
            if wanted:
                self._paths[number] = wanted
            else:
                del self._paths[number]

    def _rank(self, trial: FrozenTrial) -> None:
        """By the first objective, which is one to be high; a trial that is not complete has none."""
        for value in values_of(trial)[:1]:
            self._ranked.append((value, trial.number))

    def _delete(self, recorded: set[str]) -> None:
        for place in recorded:
            self._storage.delete(place)
