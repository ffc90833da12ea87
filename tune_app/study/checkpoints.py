"""Where checkpoints lie, and which stay there: those of open trials, and the best one of each of the best trials."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from optuna.trial import FrozenTrial
from pyarrow.fs import FileSelector, FileSystem, FileType

from tune_app.errors import UserError, without_password
from tune_app.objectives import values_of
from tune_app.study.places import Place, store_errors
from tune_app.study.removal import remove_below, remove_if_empty, resolves_inside
from tune_app.uris import below, is_store

LATEST, BEST = "checkpoint", "best_checkpoint"
"""Attributes of a trial: where its newest checkpoint lies, to go on from, and that of its best epoch."""

_CHECKPOINT = "checkpoint_"
# Ray's own records, which the study makes needless.
_RAYS_RECORDS = (
    "experiment_state-*.json",
    "search_gen_state-*.json",
    "tuner.pkl",
    "trainable.pkl",
    "error.*",
    ".validate_storage_marker",
)

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
        """Return the file system and the path in it of a checkpoint of this storage as a study keeps it."""
        return self.opened()[0], recorded.partition("://")[2] or recorded


@dataclass(frozen=True)
class StudyCheckpoints:
    """The checkpoints of one study: those in its folder of a storage.

    A study names its checkpoints by paths, and its file may have been edited or belong to other checkpoints. So a path
    stands for the last parts of it, looked for in the study's own folder; and nothing is deleted that does not carry
    the study's id, in the name of its trial's folder or in that of the study's.

    Attributes:
        folder: name of the study's folder in the storage.
        study_id: None of studies that were begun without one; nothing of theirs is deleted.
        say: is told what is left alone.
    """

    storage: CheckpointStorage
    folder: str
    study_id: str | None
    say: Callable[[str], None]

    def own(self, recorded: str) -> str | None:
        """Return the study's own checkpoint that a path stands for, whether or not it is there still.

        It is None for one that lies elsewhere, which is not gone on from.
        """
        filesystem, _ = self.storage.opened()
        folder, name = self._located(recorded)
        is_missing = not _is_there(filesystem, folder, name)
        if not resolves_inside(filesystem, folder, name) or (
            is_missing and self._is_elsewhere(recorded, f"{folder}/{name}")
        ):
            self.say(f"{recorded} is not gone on from: it does not lie in the study's folder {self._shown}")
            return None
        return self.storage.recorded(f"{folder}/{name}")

    def delete(self, recorded: str) -> None:
        """Delete a checkpoint if it is there, and its trial's folder if nothing else is in it."""
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
        """Delete checkpoints that no trial knows of: a killed search was writing them, or about to delete them.

        Args:
            trials: all of the study, of which no search is running.
        """
        filesystem, place = self.storage.opened()
        known = {_in_its_trial(path) for trial in trials for path in recorded_checkpoints(trial)}
        for trial in self._trial_folders(filesystem, place):
            checkpoints = _folders(filesystem, f"{place}/{trial}", _CHECKPOINT)
            orphans = [checkpoint for checkpoint in checkpoints if _in_its_trial(checkpoint) not in known]
            for checkpoint in orphans:
                self._remove(filesystem, place, f"{trial}/{checkpoint.rpartition('/')[2]}")
            if orphans == checkpoints:
                # What Ray wrote beside them of a trial that failed is in the study.
                self._remove(filesystem, place, trial)

    def remove_rays_records(self) -> None:
        """Delete what Ray wrote for its own way to resume; the study is the better record."""
        filesystem, place = self.storage.opened()
        for file in filesystem.get_file_info(FileSelector(f"{place}/{self.folder}", allow_not_found=True)):
            if file.type == FileType.File and any(fnmatch(file.base_name, pattern) for pattern in _RAYS_RECORDS):
                self._remove(filesystem, place, f"{self.folder}/{file.base_name}")

    def delete_all(self) -> None:
        """Delete the study's folder with all that is the study's in it, and the storage's own if that was all.

        Raises:
            UserError: it cannot be deleted.
        """
        filesystem, place = self.storage.opened()
        try:
            with store_errors():
                if self._has_own_folder:
                    self._delete_everywhere(filesystem, place)
                else:
                    self.remove_rays_records()
                    for trial in self._trial_folders(filesystem, place):
                        self._remove(filesystem, place, trial)
                    if resolves_inside(filesystem, place, self.folder):
                        remove_if_empty(filesystem, f"{place}/{self.folder}")
        except OSError as error:
            setting, why = self.storage.setting, self.storage.why(error)
            raise UserError(f"{setting}: {self.storage.place}: its checkpoints cannot be deleted ({why})") from None

    def _delete_everywhere(self, filesystem: FileSystem, place: str) -> None:
        """Delete the study's folder in this storage and in those beside it.

        A study that was set aside or renamed has its earlier checkpoints in the storage of its earlier name.
        """
        around = place.rpartition("/")[0]
        beside = (f"{storage.rpartition('/')[2]}/{self.folder}" for storage in _folders(filesystem, around))
        for folder, name in [(place, self.folder), *((around, name) for name in beside)]:
            if _is_there(filesystem, folder, name):
                is_gone = self._remove(filesystem, folder, name)
                # A store needs no folders, and another study may be just about to write there.
                if is_gone and not is_store(self.storage.place):
                    remove_if_empty(filesystem, f"{folder}/{name}".rpartition("/")[0])

    @property
    def _has_own_folder(self) -> bool:
        """Whether the folder itself carries the study's id."""
        return self.study_id is not None and self.study_id in self.folder

    @property
    def _shown(self) -> str:
        return without_password(below(self.storage.place, self.folder))

    def _owns(self, trial: str) -> bool:
        return self._has_own_folder or (self.study_id is not None and f"-{self.study_id}_" in trial)

    def _located(self, recorded: str) -> tuple[str, str]:
        """Return where a recorded checkpoint is to be looked for: a folder, and the path below it."""
        _, place = self.storage.opened()
        around = place.rpartition("/")[0]
        path = recorded.partition("://")[2] or recorded
        within = "/".join(_in_its_trial(path))
        before = path.rsplit("/", 4)[:3]
        # One that was set aside since lies in the storage of the study's earlier name.
        is_beside = self._has_own_folder and before[:1] == [around] and before[2:] == [self.folder]
        return (around, f"{before[1]}/{self.folder}/{within}") if is_beside else (place, f"{self.folder}/{within}")

    def _is_elsewhere(self, recorded: str, looked_for: str) -> bool:
        if recorded == self.storage.recorded(looked_for):
            return False
        # A store that the study names is not asked.
        return not is_store(recorded) and os.path.lexists(recorded)

    def _trial_folders(self, filesystem: FileSystem, place: str) -> list[str]:
        """Return the study's folders of trials, by their paths in the storage; others are named and left out."""
        if not resolves_inside(filesystem, place, self.folder):
            self._leave(f"{place}/{self.folder}")
            return []
        own = []
        for path in _folders(filesystem, f"{place}/{self.folder}", "trial-"):
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
        carried = f"carries the study's id ({self.study_id or 'it has none'})"
        self.say(f"{path} is left alone: only what lies in {self._shown}, not behind a link, and {carried} is deleted")


def recorded_checkpoints(trial: FrozenTrial) -> list[str]:
    """Return the paths of a trial's checkpoints as its study keeps them, the newest first."""
    return [path for key in (LATEST, BEST) if (path := trial.user_attrs.get(key))]


def trial_folder(number: int, study_id: str | None, attempt: str) -> str:
    """Return the name of a trial's folder; another attempt never writes over the checkpoint that it goes on from."""
    return f"trial-{number:05d}-{study_id}_{attempt}"


def _is_there(filesystem: FileSystem, folder: str, name: str) -> bool:
    return bool(filesystem.get_file_info(f"{folder}/{name}").type != FileType.NotFound)


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
        checkpoints: all of the study.
        keep: the best so many complete trials, by the first objective, keep the checkpoint of their best epoch.
        trials: what the study holds already, so that a resumed search keeps the same ones.
    """

    def __init__(self, checkpoints: StudyCheckpoints, keep: int, trials: Sequence[FrozenTrial]) -> None:
        self._checkpoints = checkpoints
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
        written = self._checkpoints.storage.recorded(checkpoint.path)
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
                    self._checkpoints.delete(recorded)
            except OSError:
                # A store may be out of reach for a while; a disk that does not delete will not take records either.
                if not is_store(recorded):
                    raise
                self._next_at = time.monotonic() + _AGAIN_S
                return
            self._not_needed.remove(recorded)
