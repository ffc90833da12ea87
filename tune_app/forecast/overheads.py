"""Seconds that a search takes beside its trials, as earlier searches of this machine recorded them."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from optuna.trial import FrozenTrial

from trainables.planning.lines import append_line, latest_lines
from tune_app.study.times import BESIDE_ATTRIBUTE, QUEUED_ATTRIBUTE

_LATEST = 8
_SUGGESTED = "suggested_at"


@dataclass(frozen=True)
class Overheads:
    """Seconds of a search beside its trials.

    Attributes:
        opening_s: from the begin of the search to its first trial: checks, predictions, Ray's start.
        closing_s: from the last trial's end to that of the search.
        first_start_s: until a new worker takes up a trial: its process starts, and it imports torch.
        start_s: until a worker that ran a trial before takes up another.
    """

    opening_s: float
    closing_s: float
    first_start_s: float
    start_s: float


# Measured on two loaded CPU cores with searches of the demo configuration. They serve until a search has ended here.
_FIRST_TIME = Overheads(opening_s=20.0, closing_s=4.0, first_start_s=10.0, start_s=0.5)


def recorded_overheads(file: Path) -> Overheads:
    """Return the medians over the latest searches of this machine."""
    known = list(_recorded(file))[-_LATEST:]
    if not known:
        return _FIRST_TIME
    return Overheads(*(statistics.median(getattr(one, field.name) for one in known) for field in fields(Overheads)))


def record_overheads(file: Path, overheads: Overheads) -> None:
    append_line(file, asdict(overheads))


def _recorded(file: Path) -> Sequence[Overheads]:
    try:
        lines = list(latest_lines(file))
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Overheads(**{field.name: float(line[field.name]) for field in fields(Overheads)}))
        except (KeyError, TypeError, ValueError):
            continue  # An entry of another version.
    return found


def measured_overheads(trials: Sequence[FrozenTrial], slots: int, *, began: float, ended: float) -> Overheads | None:
    """Return the time of a search beside its trials; None if it did not run enough trials to tell.

    Trials that an earlier search began do not count.

    Args:
        slots: trials that ran at a time, which are the trials that new workers took up.
        began: begin of the search, in seconds since the epoch.
        ended: its end.
    """
    own = [trial for trial in trials if trial.user_attrs.get(_SUGGESTED, 0.0) >= began]
    beside = [seconds for trial in own if (seconds := _beside_s(trial)) is not None]
    last = max((trial.datetime_complete.timestamp() for trial in own if trial.datetime_complete), default=None)
    if last is None or len(beside) <= slots:
        return None
    return Overheads(
        opening_s=max(0.0, min(trial.user_attrs[_SUGGESTED] for trial in own) - began),
        closing_s=max(0.0, ended - last),
        first_start_s=statistics.fmean(beside[:slots]),
        start_s=statistics.median(beside[slots:]),
    )


def _beside_s(trial: FrozenTrial) -> float | None:
    """Return the seconds from a trial's launch to its first report that were not its own work; None if unknown."""
    queued, beside = (trial.user_attrs.get(name) for name in (QUEUED_ATTRIBUTE, BESIDE_ATTRIBUTE))
    return None if queued is None or beside is None else float(queued) + float(beside)
