"""Which checkpoints stay on the disk: those of open trials, and the best one of each of the best trials."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial
from pyarrow.fs import FileSelector, FileSystem, FileType

from tune_app.objectives import values_of

LATEST, BEST = "checkpoint", "best_checkpoint"
"""Attributes of a trial: where its newest checkpoint lies, to go on from, and that of its best epoch."""


class CheckpointKeeper:
    """Deletes checkpoints as soon as nothing needs them any more.

    Args:
        keep: the best so many complete trials, by the first objective, keep the checkpoint of their best epoch.
        trials: what the study holds already, so that a resumed search keeps the same ones.
    """

    def __init__(self, keep: int, trials: Sequence[FrozenTrial]) -> None:
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
        now = {**before, LATEST: checkpoint.path}
        if is_best or (is_best is False and BEST not in now):
            now[BEST] = checkpoint.path
        self._paths[number] = now
        _delete(set(before.values()) - set(now.values()))
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
            _delete(set(paths.values()) - set(wanted.values()))
            if wanted:
                self._paths[number] = wanted
            else:
                del self._paths[number]

    def _rank(self, trial: FrozenTrial) -> None:
        """By the first objective, which is one to be high; a trial that is not complete has none."""
        for value in values_of(trial)[:1]:
            self._ranked.append((value, trial.number))


def open_folder(path: str) -> tuple[FileSystem, str]:
    """The file system and the path in it of a local path or a storage URI."""
    filesystem, inner = FileSystem.from_uri(path)
    return filesystem, str(inner)


def exists(attributes: Mapping[str, Any], which: str) -> bool:
    """Whether the checkpoint that a trial's attributes name is still there."""
    if not attributes.get(which):
        return False
    filesystem, path = open_folder(attributes[which])
    return bool(filesystem.get_file_info(path).type != FileType.NotFound)


def _delete_if_empty(filesystem: FileSystem, folder: str) -> None:
    if not filesystem.get_file_info(FileSelector(folder)):
        filesystem.delete_dir(folder)


def _delete(paths: set[str]) -> None:
    for location in paths:
        filesystem, path = open_folder(location)
        if filesystem.get_file_info(path).type != FileType.NotFound:
            filesystem.delete_dir(path)
            _delete_if_empty(filesystem, path.rpartition("/")[0])
