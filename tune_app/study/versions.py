"""Choice of the study that a configuration means, and the handling of changed studies.

A study whose space, data or settings changed is another study: a *version* of the first, and marked as such. Versions
are named ``name-v2``, ``name-v3`` and so on. A name stands for its study and all later versions. A configuration means
the newest of them whose record equals its own.
"""

import datetime
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tune_app import databases
from tune_app.config import RunConfig
from tune_app.errors import UserError, without_password
from tune_app.outcomes import carried_from
from tune_app.study.carry_over import CarryOver, carry_over
from tune_app.study.checkpoints import CheckpointStorage, StudyCheckpoints
from tune_app.study.record import Difference, StudyRecord
from tune_app.study.remote import LEFT_FILES, LOCAL_FILES, Say, StoredStudies, open_permanent_storage, warn
from tune_app.study.removal import remove_here
from tune_app.study.run_dir import (
    CHECKPOINTS,
    CONFIG_FILE,
    SECRETS_FILE,
    WRITTEN,
    has_own_checkpoints,
    stored_config,
    study_checkpoints,
    write_config,
)
from tune_app.study.store import (
    JOURNAL_FILE,
    LOCK_FILE,
    Parent,
    StudyStore,
    check_name,
    differs,
    find_study,
    load_study,
    open_study,
    search_is_running,
    search_lock,
    study_names,
)
from tune_app.uris import is_store

Consent = Callable[[str], None]
"""Function that asks a person whether to delete something; raises UserError unless they agree."""


# Number of reasons to show why trials do not fit.
_REASONS = 3


@dataclass(frozen=True)
class Opening:
    """Study that a configuration means.

    Attributes:
        config: configuration with the study's name.
        record: record of the configuration.
        version_of: name of the first version of the study.
        is_new: whether the study is still to be created.
        changed: newest version, if there are versions and none has the configuration's record; else None.
        differences: differences between ``changed`` and the configuration.
    """

    config: RunConfig
    record: StudyRecord
    version_of: str
    is_new: bool
    changed: StudyStore | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def parent(self) -> Parent | None:
        """The study that is forked; None without a fork."""
        if self.changed is None or self.config.study.on_change != "fork":
            return None
        return parent_of(self.changed, _run_dir(self.config, self.changed.name))


def choose(config: RunConfig, record: StudyRecord, *, fresh: bool = False, say: Say = warn) -> Opening:
    """Find the study that a configuration means: the newest version with the same record, or a new one.

    Args:
        record: record of the configuration.
        fresh: begin a new version in any case.
        say: called with a message if this machine's copy of a study holds records that the store lacks.

    Raises:
        UserError: a version cannot be read, or its file is lost.
    """
    if is_store(config.study.dir):
        _fetch_versions(config, say)
    versions = _Versions(config)
    newest = None
    as_new = config.with_reports(record.per_epoch)
    for store in versions.newest_first():
        if not fresh and not store.record.differences(same := with_rung_of(store, config, record)):
            config = config.with_reports(same.per_epoch)
            return Opening(config.named(store.name), same, versions.base, is_new=False)
        newest = newest or store
    if newest is None:
        left = left_of_lost_study(config)
        if left is None:
            check_name(Path(config.run_dir), config.study.name, config.study.storage, record)
            return Opening(as_new, record, versions.base, is_new=True)
        if not fresh:
            raise _is_lost(config, left)
    if newest is None or fresh:
        return Opening(as_new.named(versions.free_name()), record, versions.base, is_new=True)
    takes_its_place = config.study.on_change in ("archive", "delete")
    name = newest.name if takes_its_place else versions.free_name()
    differences = tuple(newest.record.differences(with_rung_of(newest, config, record)))
    return Opening(as_new.named(name), record, versions.base, True, newest, differences)


def left_of_lost_study(config: RunConfig) -> str | None:
    """Describe what a study left in its run directory although its file is damaged or missing; None without a trace.

    Call this only if there is no study of that name.
    """
    run_dir = Path(config.run_dir)
    journal = run_dir / JOURNAL_FILE
    if not os.path.isdir(run_dir):  # Unlike Path.is_dir, it accepts any text, such as a name too long for a folder.
        return None
    trials = {checkpoint.parent for checkpoint in (run_dir / CHECKPOINTS).glob("trial-*/checkpoint_*")}
    if trials:
        return f"{run_dir / CHECKPOINTS} holds checkpoints of {len(trials)} trial{'s' if len(trials) > 1 else ''}"
    # The configuration is written only once the study exists.
    if config.study.storage is None and journal.exists() and (run_dir / CONFIG_FILE).exists():
        return f"{run_dir / CONFIG_FILE} is the configuration of a study"
    return None


def _is_lost(config: RunConfig, left: str) -> UserError:
    file = config.study.storage or Path(config.run_dir) / JOURNAL_FILE
    return UserError(
        f"study.name: {file} holds no study {config.study.name}, yet {left}; restore the file from a copy, or run with"
        " --fresh to start a new version beside it"
    )


def with_rung_of(store: StudyStore, config: RunConfig, record: StudyRecord) -> StudyRecord:
    """Return the record; if ``scheduler.rung`` is auto, with the study's number of reports an epoch."""
    is_open = config.scheduler.rung == "auto" and not record.step_scale.is_fold
    return replace(record, per_epoch=store.record.per_epoch) if is_open else record


def _fetch_versions(config: RunConfig, say: Say) -> None:
    """Bring this machine's copies of the versions of a study up to date."""
    stem, _ = _split(config.study.name)
    studies = StoredStudies(config.study.dir)

    def is_version(name: str) -> bool:
        return _split(name)[0] == stem

    studies.fetch_all(is_version, say=say)
    studies.set_aside_deleted(is_version, say)


@dataclass(frozen=True)
class OpenedStudy:
    """Study of a run directory, with the configuration that is written there."""

    run_dir: Path
    config: RunConfig
    store: StudyStore


def open_run_dir(run_dir: Path) -> OpenedStudy:
    """Open the study of a run directory.

    Raises:
        UserError: its configuration or its study cannot be read, or there is none.
    """
    config = stored_config(run_dir)
    return OpenedStudy(run_dir, config, load_study(run_dir, config.study.name, config.study.storage))


def open_newest(folder: Path, name: str) -> OpenedStudy | None:
    """Open the newest readable version of a study; return None without any version.

    Args:
        folder: folder that holds the run directories.
        name: name of the study; a later version's own name means that version alone.

    Raises:
        UserError: the version with the name itself is the newest, and it cannot be read.
    """
    stem, first = _split(name)
    names = {path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}")}
    numbers = [number for own, number in map(_split, names) if own == stem and first in (1, number)]
    for number in sorted(numbers, reverse=True):
        run_dir = folder / _joined(stem, number)
        if number == first:
            return open_run_dir(run_dir)
        with suppress(UserError):
            opened = open_run_dir(run_dir)
            if opened.store.version_of == name:
                return opened
    return None


def version_text(store: StudyStore, config: RunConfig) -> str:
    """Return a line on the version of a study and on later versions; empty if it is the only one."""
    versions, later = _Versions(config), []
    for number in versions.later_numbers():
        name = versions.name_of(number)
        try:
            later_study = versions.find(number)
        except UserError:
            later.append(f"{name}, which cannot be read")
        else:
            later += [name] if later_study is not None and later_study.version_of == store.version_of else []
    is_later = store.version_of != store.name
    return "; ".join(
        filter(
            None,
            [
                f"{'' if later else 'newest '}version of {store.version_of}" if is_later else "",
                f"later versions: {', '.join(later)}" if later else "",
            ],
        )
    )


def matching(config: RunConfig, wanted: RunConfig, record: StudyRecord) -> StudyStore | None:
    """Return the newest version of a study with the same record as a configuration; None without one.

    Args:
        config: configuration of the first version that counts.
        wanted: configuration to compare with.
        record: record of ``wanted``.

    Raises:
        UserError: a version cannot be read.
    """
    same = (
        store
        for store in _Versions(config).newest_first()
        if not store.record.differences(with_rung_of(store, wanted, record))
    )
    return next(same, None)


def check_change(opening: Opening, consent: Consent | None) -> None:
    """Check that the action of ``study.on_change`` may be taken. Change nothing yet.

    Args:
        consent: asks a person to agree to a deletion; None agrees to nothing.

    Raises:
        UserError: the action is refused or not agreed to, or a search is at work on the study.
    """
    changed = opening.changed
    if changed is None:
        return
    action, run_dir = opening.config.study.on_change, _run_dir(opening.config, changed.name)
    if action == "refuse":
        raise differs(changed.name, opening.differences)
    if action in ("archive", "delete"):
        check_idle(run_dir)
    if action == "delete":
        if consent is None:
            raise UserError(
                f"study.on_change: delete: nobody consented to deleting {changed.name}; set study.on_change=fork"
            )
        consent(question(changed, without_password(opening.config.named(changed.name).location)))


def make_room(opening: Opening) -> str | None:
    """Archive or delete the study whose name is taken over. Return a line on it; None if nothing was done.

    Raises:
        UserError: a search has started on the study meanwhile.
    """
    if opening.changed is None:
        return None
    run_dir = _run_dir(opening.config, opening.changed.name)
    if opening.config.study.on_change == "archive":
        return f"study {opening.changed.name} was archived as {archive(run_dir).name}"
    if opening.config.study.on_change == "delete":
        delete(opening.changed, run_dir)
        return f"study {opening.changed.name} was deleted"
    return None


def parent_of(store: StudyStore, run_dir: Path) -> Parent:
    return Parent(store.name, str(run_dir), store.id)


def begin(opening: Opening, parent: Parent | None) -> tuple[StudyStore, str | None]:
    """Open the study, and carry over its parent's fitting trials if still due; the caller holds the search lock.

    Args:
        parent: parent of a study that is created; None starts it anew.

    Returns:
        The study, and a sentence on the trials carried over; None if no trials were due.

    Raises:
        UserError: the study cannot be opened.
    """
    config, run_dir = opening.config, Path(opening.config.run_dir)
    # Without it, the run directory would show no trace of a study in a database whose creation was interrupted.
    is_announced = config.study.storage is not None and not (run_dir / CONFIG_FILE).exists()
    if is_announced:
        write_config(config, run_dir)
    try:
        store = open_study(
            run_dir,
            config.study.name,
            config.study.storage,
            opening.record,
            parent=parent,
            version_of=opening.version_of,
        )
    except UserError:
        if is_announced:
            for name in (CONFIG_FILE, SECRETS_FILE):
                (run_dir / name).unlink(missing_ok=True)
        raise
    owed = store.parent
    if owed is None or owed.is_carried_over:
        return store, None
    lineage = list(_lineage(owed, config.study.storage, Path(config.study_folder)))
    sources = [(study.name, study.record, study.trials()) for study in reversed(lineage)]
    # If an earlier search was killed while it carried trials over, continue with the missing ones.
    known = {origin for origin in map(carried_from, store.trials()) if origin is not None}
    carried = carry_over(sources, opening.record, config.active_space(), store.distributions, known)
    store.carry_over(carried.trials)
    return store, _carried_line(carried, owed.name, len(known))


def archive(run_dir: Path) -> Path:
    """Archive the study of a run directory under a name with today's date, and return its new run directory.

    Raises:
        UserError: a search is at work on the study, it cannot be read, or the folder cannot be moved.
        StorageError: the store that keeps it does not answer.
    """
    _check_own(run_dir)
    config = stored_config(run_dir)
    with search_lock(run_dir), open_permanent_storage(config):
        load_study(run_dir, config.study.name, config.study.storage)
        target = _free(run_dir, config)
        try:
            run_dir.rename(target)
        except OSError as error:
            raise UserError(f"{run_dir}: cannot be moved ({error.strerror}); make its folder writable") from None
        # A database may lie in the run directory. Opened under its old path, it would be written there.
        url = config.study.storage and databases.moved(config.study.storage, config.run_dir, str(target))
        moved = config.named(target.name).stored_in(url)
        store = load_study(target, config.study.name, moved.study.storage)
        # This order ensures that the configuration names an existing study at every moment.
        store.copy_as(target.name, (config.run_dir, str(target)))
        write_config(moved, target)
        store.delete()
        if is_store(config.study.dir):
            StoredStudies(config.study.dir).move(run_dir.name, target.name)
    return target


def delete(store: StudyStore, run_dir: Path, say: Say = warn) -> list[Path]:
    """Delete a study and headroom's files in its run directory, and return the other files left there.

    Args:
        say: called with a message on checkpoints that are not the study's and are left alone.

    Raises:
        UserError: a search is at work on the study, the folder is no run directory, or the checkpoints are out of
            reach.
        StorageError: the store that keeps it does not answer.
    """
    _check_own(run_dir)
    config = stored_config(run_dir)
    with search_lock(run_dir), open_permanent_storage(config):
        if has_own_checkpoints(config):
            # The run directory may have been moved since its configuration was written.
            here = CheckpointStorage(str(run_dir.absolute()), "study.dir")
            StudyCheckpoints(here, CHECKPOINTS, store.id, say).delete_all()
        elif not _has_a_twin(store, config):
            study_checkpoints(config, store.id, say).delete_all()
        for name in WRITTEN:
            remove_here(run_dir, name)
        store.delete()
        set_aside = [path.name for path in run_dir.glob(LEFT_FILES)]
        for name in (JOURNAL_FILE, CONFIG_FILE, LOCK_FILE, *LOCAL_FILES, *set_aside):
            remove_here(run_dir, name)
        if is_store(config.study.dir):
            StoredStudies(config.study.dir).remove(run_dir.name)
    left = sorted(run_dir.iterdir())
    if not left:
        run_dir.rmdir()
    return left


def _has_a_twin(store: StudyStore, config: RunConfig) -> bool:
    """Return whether a store also has the study under another name, since a process was killed while archiving it."""
    if not is_store(config.study.dir):
        return False
    names = StoredStudies(config.study.dir).fetch_all(lambda name: name != store.name)
    others = (find_study(_run_dir(config, name), name, config.study.storage) for name in names)
    return any(other is not None and other.id == store.id for other in others)


class _Versions:
    """Studies that a configuration's name stands for: the one of that name, and its later versions."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._stem, self._first = _split(config.study.name)
        names = study_names(Path(config.study_folder), config.study.storage)
        self._numbers = {number for stem, number in map(_split, names) if stem == self._stem}

    @cached_property
    def base(self) -> str:
        """Name of the study that they are all versions of.

        A study whose name only looks like a version's has another base.
        """
        return self._config.study.name if self._named is None else self._named.version_of

    @cached_property
    def _named(self) -> StudyStore | None:
        # Cached and opened on demand, because opening a study reads its whole journal.
        return self.find(self._first)

    def newest_first(self) -> Iterator[StudyStore]:
        """Yield the existing versions, the newest first."""
        base = self.base
        for number in self.later_numbers():
            store = self.find(number)
            if store is not None and store.version_of == base:
                yield store
        if self._named is not None:
            yield self._named

    def free_name(self) -> str:
        """Return an unused name for a new version."""
        number = max(self._numbers, default=self._first) + 1
        while left_of_lost_study(self._config.named(self.name_of(number))) is not None:
            number += 1
        return self.name_of(number)

    def later_numbers(self) -> list[int]:
        """Return the numbers that later versions may have, the newest first."""
        return sorted((number for number in self._numbers if number > self._first), reverse=True)

    def name_of(self, number: int) -> str:
        return _joined(self._stem, number)

    def find(self, number: int) -> StudyStore | None:
        """Return the study with a version number; None without one.

        Raises:
            UserError: the study cannot be read.
        """
        name = self.name_of(number)
        return find_study(_run_dir(self._config, name), name, self._config.study.storage)


def _lineage(parent: Parent | None, url: str | None, beside: Path) -> Iterator[StudyStore]:
    """Yield a study, its parent, the parent's parent and so on, as long as they still exist.

    Args:
        beside: folder of run directories to look in if a run directory is no longer where it was.
    """
    seen = set()
    while parent is not None and parent.run_dir not in seen:
        seen.add(parent.run_dir)
        run_dir = Path(parent.run_dir)
        if not run_dir.exists():
            # The working copy of a study in a store has another path on another machine.
            run_dir = beside / parent.name
        if (run_dir / CONFIG_FILE).exists():
            url = stored_config(run_dir).study.storage
        store = find_study(run_dir, parent.name, url)
        if store is None or store.id != parent.id:
            return
        yield store
        parent = store.parent


def _split(name: str) -> tuple[str, int]:
    """Split ``x-v3`` into ``x`` and 3. A name without a number is version 1."""
    versioned = re.fullmatch(r"(.+)-v([2-9]|[1-9][0-9]+)", name)
    return (versioned[1], int(versioned[2])) if versioned else (name, 1)


def _joined(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-v{number}"


def _run_dir(config: RunConfig, name: str) -> Path:
    return Path(config.study_folder) / name


def _free(run_dir: Path, config: RunConfig) -> Path:
    """Return the run directory for an archived study, with a name that no folder and no study in its database has."""
    taken = study_names(run_dir.parent, config.study.storage)
    base = f"{config.study.name}-archived-{datetime.date.today():%Y%m%d}"
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken or (run_dir.parent / name).exists():
        number += 1
    return run_dir.parent / config.named(name).study.name


def check_idle(run_dir: Path) -> None:
    """Check that no search is at work on a study.

    Raises:
        UserError: a search is at work on it.
    """
    if search_is_running(run_dir):
        raise UserError(f"study {run_dir.name}: a search is running on it; wait for it or end it first")


def _check_own(run_dir: Path) -> None:
    if run_dir.is_symlink() or not (run_dir / CONFIG_FILE).is_file():
        raise UserError(
            f"{run_dir}: is a link, or holds no {CONFIG_FILE} of a study, so it was not changed; give a run directory"
        )


def question(store: StudyStore, location: str) -> str:
    return f"Delete study {store.name} with its trials ({len(store.trials())}), in {location}?"


def _carried_line(result: CarryOver, parent: str, already: int) -> str:
    carried, left = already + len(result.trials), result.left.total()
    line = f"carried over from {parent}: {carried or 'none'} of {carried + left} finished trials"
    reasons = [f"{count} × {reason}" for reason, count in result.left.most_common(_REASONS)]
    if len(result.left) > _REASONS:
        reasons.append(f"and {len(result.left) - _REASONS} more reasons")
    return f"{line} ({'; '.join(reasons)})" if reasons else line
