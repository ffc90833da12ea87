"""Seconds that a search takes beside its trials, as earlier searches of this machine recorded them."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from trainables.planning.lines import append_line, latest_lines

_LATEST = 8


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
