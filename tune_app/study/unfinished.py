"""Studies that were begun and never searched, because their search was refused or their creation was interrupted."""

import os
from pathlib import Path

from tune_app.errors import UserError
from tune_app.outcomes import carried_from
from tune_app.study.remote import LOCAL_FILES
from tune_app.study.run_dir import CHECKPOINTS, CONFIG_FILE, SECRETS_FILE, stored_config
from tune_app.study.store import JOURNAL_FILE, LOCK_FILE, StudyStore, find_study, search_lock

_FILES = (JOURNAL_FILE, CONFIG_FILE, SECRETS_FILE, LOCK_FILE, *LOCAL_FILES)


def what_is_missing(run_dir: Path) -> str | None:
    """Return the missing part of a study whose creation was interrupted; None for any other run directory.

    Raises:
        UserError: the configuration or the study cannot be read.
    """
    if run_dir.is_symlink() or os.path.exists(run_dir / CHECKPOINTS):
        return None
    if not os.path.isfile(run_dir / CONFIG_FILE):
        return CONFIG_FILE if os.path.isfile(run_dir / JOURNAL_FILE) else None
    config = stored_config(run_dir)
    if config.study.storage is None or find_study(run_dir, config.study.name, config.study.storage) is not None:
        return None
    return f"its study in {config.study.storage}"


def remove_unfinished(run_dir: Path) -> None:
    """Delete the files that the interrupted creation of a study left in its run directory.

    Raises:
        UserError: a search is at work on the study.
    """
    with search_lock(run_dir):
        _remove_files(run_dir)


def withdraw(store: StudyStore, run_dir: Path) -> None:
    """Delete a study that has launched no trial; the caller holds the search lock."""
    if any(carried_from(trial) is None for trial in store.trials()):
        raise UserError(f"{run_dir}: holds trials, so it was not changed")
    store.delete()
    _remove_files(run_dir)


def _remove_files(run_dir: Path) -> None:
    for name in _FILES:
        (run_dir / name).unlink(missing_ok=True)
    if not any(run_dir.iterdir()):
        run_dir.rmdir()
