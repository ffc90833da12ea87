"""Lookup of a study by what a person gives: its name, its run directory or its URI."""

import os
from dataclasses import dataclass
from pathlib import Path

from tune_app.config import RunConfig
from tune_app.errors import UserError, nearest
from tune_app.study.remote import fetched
from tune_app.study.run_dir import CONFIG_FILE, recorded_config
from tune_app.study.store import StudyStore
from tune_app.study.versions import OpenedStudy, open_newest, open_run_dir
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
    opened = _opened(study)
    run_dir = opened.run_dir
    own = RUNS / study
    if exact and is_name(study) and run_dir != own:
        there = [str(path) for path in (own, run_dir) if path.is_dir()]
        raise UserError(
            f"{study}: its newest version is {run_dir.name}; give the run directory of the version that you mean:"
            f" {' or '.join(there)}"
        )
    config, differences = recorded_config(opened.store, opened.config)
    warnings = []
    if differences:
        named = "; ".join(map(str, differences[:_SHOWN_DIFFERENCES]))
        more = len(differences) - _SHOWN_DIFFERENCES
        warnings.append(
            f"{run_dir / CONFIG_FILE} has changed since the search ({named}"
            f"{f'; and {more} more' if more > 0 else ''}); the study's own record applies"
        )
    # Do not resolve links, since callers must recognise a run directory that is a link.
    return NamedStudy(opened.store, config, run_dir.absolute(), tuple(warnings))


def is_name(study: str) -> bool:
    """Return whether a person gave a study's name rather than its run directory or URI."""
    return not is_store(study) and not os.path.isfile(Path(study) / CONFIG_FILE)


def _opened(study: str) -> OpenedStudy:
    if not is_name(study):
        return open_run_dir(fetched(study) if is_store(study) else Path(study))
    opened = open_newest(RUNS, study)
    if opened is None:
        raise UserError(
            f"{study}: no study of that name in ./{RUNS} and no run directory at that path{_near(study)}; a"
            f" run directory holds {CONFIG_FILE}"
        )
    return opened


def _near(study: str) -> str:
    known = [path.parent.name for path in RUNS.glob(f"*/{CONFIG_FILE}")]
    return nearest(Path(study).name, known)
