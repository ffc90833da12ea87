"""Where checkpoints lie, and which stay there: those of open trials, and the best one of each of the best trials."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from optuna.trial import FrozenTrial
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from tune_app.errors import UserError
from tune_app.objectives import values_of
from tune_app.study.places import Place, store_errors
from tune_app.uris import is_store

LATEST, BEST = "checkpoint", "best_checkpoint"
"""Attributes of a trial: where its newest checkpoint lies, to go on from, and that of its best epoch."""

_AGAIN_S = 10.0


class CheckpointStorage(Place):
    """The place of a study's checkpoints.

    A study knows its checkpoints by paths of the folder, or by URIs without what the store is reached by: keys and
    options stay in the configuration.
    """

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

    def delete_everywhere(self, name: str) -> None:
        """Delete a study's folder with all that is in it, and the storage's own if that was all.

        A study that was set aside or renamed has its earlier checkpoints in the storage of its earlier name, so every
        storage beside this one is looked through.

        Args:
            name: of the folder, which no other study's bears.

        Raises:
            UserError: it cannot be deleted.
        """
        filesystem, path = self.opened()
        try:
            with store_errors():
                for storage in {path, *_folders(filesystem, path.rpartition("/")[0])}:
                    if filesystem.get_file_info(f"{storage}/{name}").type == FileType.Directory:
                        filesystem.delete_dir(f"{storage}/{name}")
                        # A store needs no folders, and another study may be just about to write there.
                        if not is_store(self.place) and not filesystem.get_file_info(FileSelector(storage)):
                            filesystem.delete_dir(storage)
        except OSError as error:
            raise UserError(
                f"{self.setting}: {self.place}: its checkpoints cannot be deleted ({self.why(error)})"
            ) from None


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


def _folders(filesystem: FileSystem, folder: str, prefix: str = "") -> list[str]:
    found = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    return [info.path for info in found if info.type == FileType.Directory and info.base_name.startswith(prefix)]


class CheckpointKeeper:
    """Knows which checkpoints nothing needs any more, and deletes them when it is told to.

    Not before: until the study is known to be kept with what is newer, it still names the older.

    Args:
        storage: where they lie.
        keep: the best so many complete trials, by the first objective, keep the checkpoint of their best epoch.
        trials: what the study holds already, so that a resumed search keeps the same ones.
    """

    def __init__(self, storage: CheckpointStorage, keep: int, trials: Sequence[FrozenTrial]) -> None:
        self._storage = storage
        self._keep = keep
        self._not_needed: set[str] = set()
        self._next_at = 0.0
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
        self._not_needed |= set(before.values()) - set(now.values())
        return now

    def settle(self, trial: FrozenTrial) -> None:
        """A trial has ended: its best checkpoint is needed if it is one of the best trials, and no others of it."""
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
            self._not_needed |= set(paths.values()) - set(wanted.values())
            if wanted:
                self._paths[number] = wanted
            else:
                del self._paths[number]

    def _rank(self, trial: FrozenTrial) -> None:
        """By the first objective, which is one to be high; a trial that is not complete has none."""
        for value in values_of(trial)[:1]:
            self._ranked.append((value, trial.number))

    def sweep(self) -> None:
        """Delete what nothing needs any more. What a store does not let go of now is tried again a while later."""
        if time.monotonic() < self._next_at:
            return
        for recorded in sorted(self._not_needed):
            try:
                with store_errors():
                    self._storage.delete(recorded)
            except OSError:
                # A store may be out of reach for a while; a disk that does not delete will not take records either.
                if not is_store(recorded):
                    raise
                self._next_at = time.monotonic() + _AGAIN_S
                return
            self._not_needed.remove(recorded)
