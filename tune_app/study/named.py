"""Lookup of a study by what a person gives: its name, its run directory or its URI."""

import os
from dataclasses import dataclass
from pathlib import Path

from tune_app.config import RunConfig
from tune_app.errors import UserError, nearest
from tune_app.study.remote import fetched
from tune_app.study.run_dir import CONFIG_FILE, recorded_config, stored_config
from tune_app.study.store import StudyStore, load_study
from tune_app.study.versions import newest_run_dir
from tune_app.uris import is_store

RUNS = Path("runs")
"""Folder, in the working directory, that holds the run directories of studies given by name."""

_SHOWN_DIFFERENCES = 3


@dataclass(frozen=True)
class NamedStudy:
    """Study with its recorded configuration and its run directory.

    Attributes:
        warnings: lines on what the configuration file says differently from the study's own record.
    """

    store: StudyStore
    config: RunConfig
    run_dir: Path
    warnings: tuple[str, ...] = ()


def open_study(study: str | Path, *, exact: bool = False) -> NamedStudy:
    """Open a study by its name (under ``RUNS``), its run directory or its URI.

    A name means the newest version of the study; a run directory or a URI means exactly that version.

    Args:
        exact: refuse a name that stands for several versions.

    Raises:
        UserError: there is no such study.
    """
    study = str(study)
    run_dir = _run_dir_of(study)
    own = RUNS / study
    if exact and is_name(study) and run_dir != own:
        there = [str(path) for path in (own, run_dir) if path.is_dir()]
        raise UserError(
            f"{study}: its newest version is {run_dir.name}; give the run directory of the version that you mean:"
            f" {' or '.join(there)}"
        )
    written = stored_config(run_dir)
    store = load_study(run_dir, written.study.name, written.study.storage)
    config, differences = recorded_config(store, written)
    warnings = []
    if differences:
        named = "; ".join(map(str, differences[:_SHOWN_DIFFERENCES]))
        more = len(differences) - _SHOWN_DIFFERENCES
        warnings.append(
            f"{run_dir / CONFIG_FILE} has changed since the search ({named}"
            f"{f'; and {more} more' if more > 0 else ''}); the study's own record applies"
        )
    # Do not resolve links, since callers must recognise a run directory that is a link.
    return NamedStudy(store, config, run_dir.absolute(), tuple(warnings))


def is_name(study: str) -> bool:
    """Return whether a person gave a study's name rather than its run directory or URI."""
    return not is_store(study) and not os.path.isfile(Path(study) / CONFIG_FILE)


def _run_dir_of(study: str) -> Path:
    if not is_name(study):
        return fetched(study) if is_store(study) else Path(study)
    run_dir = newest_run_dir(RUNS, study) or RUNS / study
    # Unlike Path.is_file, os.path.isfile accepts any text, such as a name too long for a folder.
    if not os.path.isfile(run_dir / CONFIG_FILE):
        raise UserError(
            f"{study}: no study of that name in ./{RUNS} and no run directory at that path{_near(study)}; a"
            f" run directory holds {CONFIG_FILE}"
        )
    return run_dir


def _near(study: str) -> str:
    known = [path.name for path in RUNS.iterdir() if path.is_dir()] if RUNS.is_dir() else []
    return nearest(Path(study).name, known)
