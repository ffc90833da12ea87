"""Storage and retention of checkpoints: those of open trials stay, and the best one of each of the best trials."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from pyarrow.fs import FileSelector, FileSystem, FileType, copy_files

from tune_app.errors import UserError, without_password
from tune_app.objectives import values_of
from tune_app.study.removal import remove_below, remove_if_empty, resolves_inside
from tune_app.study.storage_location import StorageLocation, store_errors
from tune_app.uris import below, is_store

LATEST, BEST = "checkpoint", "best_checkpoint"
"""Attributes of a trial: the paths of its newest checkpoint, to resume from, and of its best epoch's checkpoint."""

_CHECKPOINT = "checkpoint_"
# Ray's own records, which the study makes redundant.
_RAYS_RECORDS = (
    "experiment_state-*.json",
    "search_gen_state-*.json",
    "tuner.pkl",
    "trainable.pkl",
    "error.*",
    ".validate_storage_marker",
)

_AGAIN_S = 10.0


class CheckpointStorage(StorageLocation):
    """Storage location of a study's checkpoints.

    A study records its checkpoints as local paths, or as URIs without keys and options. Those stay in the
    configuration.
    """

    def recorded(self, path: str) -> str:
        """Return the form in which a study records the path of a checkpoint in this storage."""
        scheme, sign, _ = self.address.partition("://")
        return f"{scheme}{sign}{path}" if sign and scheme != "file" else path

    def find(self, recorded: str) -> tuple[FileSystem, str]:
        """Return the file system of a recorded checkpoint of this storage, and its path there."""
        return self.opened()[0], recorded.partition("://")[2] or recorded


@dataclass(frozen=True)
class StudyCheckpoints:
    """Checkpoints of one study, in its folder of a storage.

    A study records its checkpoints as paths, and its file may have been edited or belong to other checkpoints.
    Therefore only the last parts of a path count, and they are looked for in the study's own folder. Only checkpoints
    whose trial folder or study folder has the study's id in its name are deleted.

    Attributes:
        folder: name of the study's folder in the storage.
        study_id: id of the study; None if it was begun without one, and then nothing is deleted.
        say: called with a message on files that are left alone.
    """

    storage: CheckpointStorage
    folder: str
    study_id: str | None
    say: Callable[[str], None]

    def own(self, recorded: str) -> str | None:
        """Return the study's own checkpoint for a recorded path, whether or not it still exists.

        Return None for a checkpoint that lies elsewhere: no trial resumes from it.
        """
        filesystem, _ = self.storage.opened()
        folder, name = self._located(recorded)
        is_missing = not _is_there(filesystem, folder, name)
        if not resolves_inside(filesystem, folder, name) or (
            is_missing and self._is_elsewhere(recorded, f"{folder}/{name}")
        ):
            self.say(f"cannot resume from {recorded}: it is not in the study's folder {self._shown}")
            return None
        return self.storage.recorded(f"{folder}/{name}")

    def fetched(self, recorded: str, folder: Path) -> Path | None:
        """Return a folder of this machine with the study's own checkpoint for a recorded path; None if it is gone.

        Args:
            folder: new folder, to which a checkpoint in a store is copied.

        Raises:
            UserError: the store does not answer.
        """
        filesystem, _ = self.storage.opened()
        location, name = self._located(recorded)
        try:
            with store_errors():
                if not resolves_inside(filesystem, location, name) or not _is_there(filesystem, location, name):
                    return None
                if not is_store(self.storage.address):
                    return Path(location) / name
                folder.mkdir(parents=True)
                copy_files(f"{location}/{name}", str(folder), source_filesystem=filesystem)
        except OSError as error:
            setting, why = self.storage.setting, self.storage.why(error)
            raise UserError(f"{setting}: {self._shown}: a checkpoint cannot be read ({why}); try again later") from None
        return folder

    def delete(self, recorded: str) -> None:
        """Delete a checkpoint if it exists, and its trial's folder if that is empty then."""
        filesystem, _ = self.storage.opened()
        folder, name = self._located(recorded)
        if _is_there(filesystem, folder, name):
            trial, _, checkpoint = name.rpartition("/")
            if not self._owns(trial.rpartition("/")[2]) or not checkpoint.startswith(_CHECKPOINT):
                self._leave(f"{folder}/{name}")
            elif self._remove(filesystem, folder, name):
                remove_if_empty(filesystem, f"{folder}/{trial}")
        elif self._is_elsewhere(recorded, f"{folder}/{name}"):
            self._leave(recorded)

    def remove_orphans(self, trials: Iterable[FrozenTrial]) -> None:
        """Delete checkpoints that no trial records: a killed search was writing them, or about to delete them.

        Args:
            trials: all trials of the study, on which no search may be running.
        """
        filesystem, location = self.storage.opened()
        known = {_in_its_trial(path) for trial in trials for path in recorded_checkpoints(trial)}
        for trial in self._trial_folders(filesystem, location):
            checkpoints = _folders(filesystem, f"{location}/{trial}", _CHECKPOINT)
            orphans = [checkpoint for checkpoint in checkpoints if _in_its_trial(checkpoint) not in known]
            for checkpoint in orphans:
                self._remove(filesystem, location, f"{trial}/{checkpoint.rpartition('/')[2]}")
            if orphans == checkpoints:
                # Ray's error files in the folder are redundant: the study holds the error.
                self._remove(filesystem, location, trial)

    def remove_rays_records(self) -> None:
        """Delete the files that Ray wrote to resume by itself; the study is the better record."""
        filesystem, location = self.storage.opened()
        for file in filesystem.get_file_info(FileSelector(f"{location}/{self.folder}", allow_not_found=True)):
            if file.type == FileType.File and any(fnmatch(file.base_name, pattern) for pattern in _RAYS_RECORDS):
                self._remove(filesystem, location, f"{self.folder}/{file.base_name}")

    def delete_all(self) -> None:
        """Delete the study's checkpoints, and the folders that are empty then.

        Raises:
            UserError: the checkpoints cannot be deleted.
        """
        filesystem, location = self.storage.opened()
        try:
            with store_errors():
                if self._has_own_folder:
                    self._delete_everywhere(filesystem, location)
                else:
                    self.remove_rays_records()
                    for trial in self._trial_folders(filesystem, location):
                        self._remove(filesystem, location, trial)
                    if resolves_inside(filesystem, location, self.folder):
                        remove_if_empty(filesystem, f"{location}/{self.folder}")
        except OSError as error:
            setting, why = self.storage.setting, self.storage.why(error)
            raise UserError(f"{setting}: {self.storage.address}: its checkpoints cannot be deleted ({why})") from None

    def _delete_everywhere(self, filesystem: FileSystem, location: str) -> None:
        """Delete the study's folder in this storage and in neighbouring ones.

        An archived or renamed study has its earlier checkpoints in the storage of its earlier name.
        """
        around = location.rpartition("/")[0]
        beside = (f"{storage.rpartition('/')[2]}/{self.folder}" for storage in _folders(filesystem, around))
        for folder, name in [(location, self.folder), *((around, name) for name in beside)]:
            if _is_there(filesystem, folder, name):
                is_gone = self._remove(filesystem, folder, name)
                # A store needs no folders, and another study may be about to write there.
                if is_gone and not is_store(self.storage.address):
                    remove_if_empty(filesystem, f"{folder}/{name}".rpartition("/")[0])

    @property
    def _has_own_folder(self) -> bool:
        """Whether the study's id is in the folder's name."""
        return self.study_id is not None and self.study_id in self.folder

    @property
    def _shown(self) -> str:
        return without_password(below(self.storage.address, self.folder))

    def _owns(self, trial: str) -> bool:
        return self._has_own_folder or (self.study_id is not None and f"-{self.study_id}_" in trial)

    def _located(self, recorded: str) -> tuple[str, str]:
        """Return where to look for a recorded checkpoint: a folder, and the path below it."""
        _, location = self.storage.opened()
        around = location.rpartition("/")[0]
        _, path = self.storage.find(recorded)
        within = "/".join(_in_its_trial(path))
        before = path.rsplit("/", 4)[:3]
        # If the study was archived since, the checkpoint lies in the storage of the study's earlier name.
        is_beside = self._has_own_folder and before[:1] == [around] and before[2:] == [self.folder]
        return (around, f"{before[1]}/{self.folder}/{within}") if is_beside else (location, f"{self.folder}/{within}")

    def _is_elsewhere(self, recorded: str, looked_for: str) -> bool:
        if recorded == self.storage.recorded(looked_for):
            return False
        # Stores that the study records are not queried.
        return not is_store(recorded) and os.path.lexists(recorded)

    def _trial_folders(self, filesystem: FileSystem, location: str) -> list[str]:
        """Return the paths of the study's trial folders in the storage; report other folders and leave them out."""
        if not resolves_inside(filesystem, location, self.folder):
            self._leave(f"{location}/{self.folder}")
            return []
        own = []
        for path in _folders(filesystem, f"{location}/{self.folder}", "trial-"):
            name = path.rpartition("/")[2]
            if self._owns(name):
                own.append(f"{self.folder}/{name}")
            else:
                self._leave(path)
        return own

    def _remove(self, filesystem: FileSystem, folder: str, name: str) -> bool:
        is_gone = remove_below(filesystem, folder, name)
        if not is_gone:
            self._leave(f"{folder}/{name}")
        return is_gone

    def _leave(self, path: str) -> None:
        self.say(
            f"{path} was not deleted: it is not in {self._shown}, lies behind a link, or does not carry the study's id"
            f" ({self.study_id or 'the study has none'})"
        )


def recorded_checkpoints(trial: FrozenTrial) -> list[str]:
    """Return the paths of a trial's checkpoints as its study records them, the newest first."""
    return [path for key in (LATEST, BEST) if (path := trial.user_attrs.get(key))]


def trial_folder(number: int, study_id: str | None, attempt: str) -> str:
    """Return the name of a trial's folder. No attempt overwrites the checkpoint that it resumes from."""
    return f"trial-{number:05d}-{study_id}_{attempt}"


def _is_there(filesystem: FileSystem, folder: str, name: str) -> bool:
    return bool(filesystem.get_file_info(f"{folder}/{name}").type != FileType.NotFound)


def _in_its_trial(path: str) -> tuple[str, ...]:
    """Return the last two parts of a checkpoint's path. They identify it; the rest changes when it is moved."""
    return tuple(path.rsplit("/", 2)[-2:])


def _folders(filesystem: FileSystem, folder: str, prefix: str = "") -> list[str]:
    entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
    return [info.path for info in entries if info.type == FileType.Directory and info.base_name.startswith(prefix)]


class CheckpointKeeper:
    """Bookkeeping of the checkpoints that nothing needs any more, and their deletion on ``sweep``.

    The caller sweeps only after the study has been saved with the newer paths. Until then the saved study may still
    name the older ones.

    Args:
        checkpoints: checkpoints of the study.
        keep: number of best complete trials, by the first objective, that keep the checkpoint of their best epoch.
        trials: trials that the study already holds, so that a resumed search keeps the same checkpoints.
    """

    def __init__(self, checkpoints: StudyCheckpoints, keep: int, trials: Sequence[FrozenTrial]) -> None:
        self._checkpoints = checkpoints
        self._keep = keep
        self._not_needed: set[str] = set()
        self._next_at = 0.0
        self._paths: dict[int, dict[str, str]] = {}
        self._ranked: list[tuple[float, int]] = []
        # An earlier search may have recorded a trial's end and been killed before it deleted the checkpoints.
        self._ended = {trial.number for trial in trials if trial.state.is_finished()}
        for trial in trials:
            paths = {key: trial.user_attrs[key] for key in (LATEST, BEST) if trial.user_attrs.get(key)}
            if paths:
                self._paths[trial.number] = paths
            self._rank(trial)

    def add(self, number: int, checkpoint: Any, *, is_best: bool | None) -> dict[str, str]:
        """Note a checkpoint that a trial wrote, and return the paths of the trial's checkpoints as attributes.

        Args:
            is_best: whether the checkpoint is of the trial's best epoch so far; None if the trial's model is not kept.
        """
        before = self._paths.get(number, {})
        written = self._checkpoints.storage.recorded(checkpoint.path)
        now = {**before, LATEST: written}
        if is_best or (is_best is False and BEST not in now):
            now[BEST] = written
        self._paths[number] = now
        self._not_needed |= set(before.values()) - set(now.values())
        return now

    def settle(self, trial: FrozenTrial) -> None:
        """Note that a trial has ended. If it is one of the best trials, its best checkpoint stays, else none."""
        self._rank(trial)
        # Among equal values the earlier trial stays, as in the leaderboard.
        self._ranked.sort(key=lambda item: (-item[0], item[1]))
        self._ended.add(trial.number)
        # A trial that is not among the best now can never be later.
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
        """Add a complete trial to the ranking, by the first objective, which is maximised. Ignore other trials."""
        for value in values_of(trial)[:1]:
            self._ranked.append((value, trial.number))

    def sweep(self) -> None:
        """Delete the checkpoints that nothing needs any more. Retry later if a store does not answer."""
        if time.monotonic() < self._next_at:
            return
        for recorded in sorted(self._not_needed):
            try:
                with store_errors():
                    self._checkpoints.delete(recorded)
            except OSError:
                # A store may be unreachable for a while. A disk that cannot delete cannot save records either.
                if not is_store(recorded):
                    raise
                self._next_at = time.monotonic() + _AGAIN_S
                return
            self._not_needed.remove(recorded)
