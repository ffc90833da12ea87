"""Overviews of studies, for ``headroom study list`` and ``show``."""

import datetime
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from rich.table import Table

from tune_app.commands.endings import endings_line
from tune_app.commands.tables import best_cell, print_status
from tune_app.config import RunConfig, parse_config
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.objectives import values_of
from tune_app.outcomes import carried_from
from tune_app.study.confirmation import Confirmation, confirmation_line, read_confirmation
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.remote import StoredStudies, is_running
from tune_app.study.reporting import (
    StudyStatus,
    is_collapsed,
    is_infeasible,
    is_recommended,
    reason_of,
    state_of,
    study_status,
)
from tune_app.study.run_dir import CONFIG_FILE, stored_config
from tune_app.study.store import JOURNAL_FILE, StudyStore, load_study
from tune_app.study.times import working_s
from tune_app.study.unfinished import what_is_missing
from tune_app.uris import is_store


@dataclass(frozen=True)
class Overview:
    """Overview of a study.

    Attributes:
        parent: name of the study that it is a changed version of.
        changed: time at which a trial last began or ended; None without trials.
        confirmation: result of ``headroom confirm``; None without one.
    """

    run_dir: Path
    is_running: bool
    status: StudyStatus
    parent: str | None
    changed: datetime.datetime | None
    confirmation: Confirmation | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.status.as_dict(),
            "run_dir": str(self.run_dir),
            "is_running": self.is_running,
            "parent": self.parent,
            "changed": self.changed.isoformat(timespec="seconds") if self.changed else None,
            **({} if self.confirmation is None else {"confirmation": self.confirmation.as_dict()}),
        }


@dataclass(frozen=True)
class Unreadable:
    """Run directory whose study cannot be read, with the problem in one line."""

    run_dir: Path
    problem: str

    def as_dict(self) -> dict[str, Any]:
        return {"study": self.run_dir.name, "run_dir": str(self.run_dir), "problem": self.problem}


def overview(store: StudyStore, config: RunConfig, run_dir: Path) -> Overview:
    running = is_running(config, run_dir)
    moments = [
        moment for trial in store.trials() for moment in (trial.datetime_start, trial.datetime_complete) if moment
    ]
    return Overview(
        run_dir,
        running,
        study_status(store, is_running=running),
        store.parent.name if store.parent else None,
        max(moments).astimezone() if moments else None,
        read_confirmation(run_dir),
    )


def studies_in(location: str) -> list[Overview | Unreadable]:
    """Return all studies with run directories in a folder, the last changed first and unreadable ones last.

    Args:
        location: folder, or URI of a store.

    Raises:
        UserError: there is no such folder.
    """
    read: list[Overview] = []
    unreadable: list[Unreadable] = []
    for run_dir in _run_dirs(location):
        try:
            if (missing := what_is_missing(run_dir)) is not None:
                raise UserError(
                    f"its creation was interrupted: {missing} is missing; headroom search completes it, headroom study"
                    f" delete {run_dir.name} deletes it"
                )
            config = stored_config(run_dir)
            read.append(overview(load_study(run_dir, config.study.name, config.study.storage), config, run_dir))
        except UserError as error:
            unreadable.append(Unreadable(run_dir, str(error)))
    read.sort(key=lambda study: study.changed.timestamp() if study.changed else 0.0, reverse=True)
    return [*read, *unreadable]


def _run_dirs(location: str) -> list[Path]:
    if is_store(location):
        studies = StoredStudies(location)
        return [studies.folder / name for name in studies.fetch_all()]
    folder = Path(location)
    if not folder.is_dir():
        raise UserError(f"--dir: {folder}: no such folder; give the study.dir of your searches")
    # A study whose creation was interrupted has no configuration yet.
    folders = {file.parent.resolve() for name in (CONFIG_FILE, JOURNAL_FILE) for file in folder.glob(f"*/{name}")}
    return sorted(folders)


def print_studies(console: Console, studies: Sequence[Overview | Unreadable], folder: str) -> None:
    """Print one line per study."""
    if not studies:
        console.say(f"no study in {folder}; headroom search starts one")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "launched", "complete", "rejected", "carried over", "best", "last change", ""):
        table.add_column(column, overflow="fold")
    read = [study for study in studies if isinstance(study, Overview)]
    for study in read:
        status = study.status
        table.add_row(
            status.study,
            f"{status.launched} of {status.target}",
            str(status.trials["complete"]),
            str(status.trials["infeasible"] or ""),
            str(sum(status.carried.values()) or ""),
            best_cell(status),
            f"{study.changed:%Y-%m-%d %H:%M}" if study.changed else "",
            ", ".join(_remarks(study)),
        )
    if read:
        console.print(table)
    for unread in studies:
        if isinstance(unread, Unreadable):
            line = f"{unread.run_dir.name} cannot be read: {unread.problem}"
            console.say(line)


def _remarks(study: Overview) -> list[str]:
    return [*(["running"] if study.is_running else []), *([f"version of {study.parent}"] if study.parent else [])]


def status_dict(store: StudyStore, shown: Overview, config: RunConfig, version: str) -> dict[str, Any]:
    """Return the content of ``headroom status --json``: the contract's keys, every trial, and further facts."""
    status, now = shown.status, time.time() if shown.is_running else None
    left = remaining_s(store.trials(), status.target, Course.of(config)) if shown.is_running else None
    return {
        **shown.as_dict(),
        "version": version,
        "waiting": status.waiting,
        "eta_s": None if left is None else round(left, 1),
        "hours": {"planned": store.time.planned, "taken": store.time.taken_s / 3600},
        "ending": endings_line(store, config, running=shown.is_running),
        "baseline": status.baseline,
        "baselines": status.baselines,
        "ahead": status.ahead and asdict(status.ahead),
        "all_trials": [_trial_dict(trial, store, shown.is_running, now) for trial in store.trials()],
    }


def _trial_dict(trial: FrozenTrial, store: StudyStore, is_running: bool, now: float | None) -> dict[str, Any]:
    step_scale, origin = store.record.step_scale, carried_from(trial)
    values = values_of(trial)
    return {
        "number": trial.number,
        "outcome": state_of(trial, is_running=is_running),
        "value": values[0] if values else step_scale.last_value(trial.intermediate_values),
        "values": list(values),
        step_scale.noun: max(trial.intermediate_values, default=0) / step_scale.per_epoch,
        "params": dict(trial.params),
        "working_s": None if is_infeasible(trial) else round(working_s(trial, now), 3),
        "collapsed": is_collapsed(trial),
        "recommended": is_recommended(trial),
        "carried_from": origin and asdict(origin),
        "reason": reason_of(trial) or None,
    }


def print_study(console: Console, store: StudyStore, shown: Overview, config: RunConfig, version: str) -> None:
    """Print a study's subject, space, settings that differ from the defaults, and outcomes."""
    record = store.record
    lines = [
        ("run directory", str(shown.run_dir)),
        ("task", record.task),
        ("objective", ", ".join(map(str, record.objectives))),
        ("data", f"fingerprint {record.data_fingerprint[:12]}"),
        *([("version of", shown.parent)] if shown.parent else []),
        *((f"space  {name}", str(entry)) for name, entry in record.space.entries.items()),
        *((f"set    {name}", json.dumps(value)) for name, value in _unlike_defaults(record)),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.say(f"{name:<{width}}  {value}")
    print_status(console, store, shown.status, running=shown.is_running, course=Course.of(config), version=version)
    if shown.confirmation is not None:
        console.say(confirmation_line(shown.confirmation))


def _unlike_defaults(record: StudyRecord) -> list[tuple[str, Any]]:
    """Return the settings outside the space that differ from their defaults."""
    least = {"study": {"name": "defaults"}, "data": {"path": "demo"}, "task": {"name": record.task}}
    defaults = parse_config(least).fixed_for_study()
    return [(name, value) for name, value in record.fixed.items() if value != defaults.get(name)]
