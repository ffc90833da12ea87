"""The machine's record of the time that trials took, from which later searches are planned."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from trainables.planning.ledger import Circumstances
from trainables.planning.lines import append_line, latest_lines


@dataclass
class Work:
    """Work of some passes, as their time depends on it.

    Attributes:
        calls: optimizer steps, or evaluations.
        passes: runs of the model over some rows.
        tokens: computed tokens, padding included.
        squares: sum over the rows of their squared padded length, to which the work of attention is proportional.
        seconds: time that the work took; 0 if it is only planned.
    """

    calls: float = 0.0
    passes: float = 0.0
    tokens: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0

    def add_pass(self, rows: int, length: int) -> None:
        """Add a pass over so many rows that are padded to a length."""
        self.passes += 1
        self.tokens += rows * length
        self.squares += rows * length**2

    def add_steps(self, steps: Sequence[Sequence[np.ndarray]], lengths: np.ndarray) -> None:
        """Add optimizer steps: the row numbers of each of their passes."""
        for pieces in steps:
            self.calls += 1
            for rows in pieces:
                self.add_pass(len(rows), int(lengths[rows].max()))

    def scaled(self, factor: float) -> "Work":
        """Return so many times the work."""
        return Work(**{field.name: getattr(self, field.name) * factor for field in fields(self)})

    def as_list(self) -> list[float]:
        return [self.calls, self.passes, self.tokens, self.squares, self.seconds]


@dataclass(frozen=True)
class Setup:
    """Everything that a trial's pace depends on beside its work.

    Attributes:
        models: names of the encoders.
        threads: torch's threads.
        at_once: trials that ran at a time on the machine.
    """

    where: Circumstances
    models: tuple[str, ...]
    task: str
    optimizer: str
    threads: int
    at_once: int
    checkpointing: bool
    frozen_layers: int

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {**values.pop("where"), **values, "models": list(self.models)}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Self:
        where = Circumstances(**{field.name: entry[field.name] for field in fields(Circumstances)})
        own = {field.name: entry[field.name] for field in fields(cls) if field.name != "where"}
        return cls(where, **{**own, "models": tuple(entry["models"])})


@dataclass(frozen=True)
class Timing:
    """Time of a part of a trial between two reports.

    Attributes:
        start_s: seconds to load and to plan memory, if the part begins with them.
        save_s: seconds to write the checkpoint, if the part ends with one.
        saved_bytes: size of that checkpoint.
        is_warm: whether the libraries were loaded and the caches filled before.
    """

    setup: Setup
    train: Work
    evaluation: Work
    start_s: float | None = None
    save_s: float | None = None
    saved_bytes: int | None = None
    is_warm: bool = True


class PaceLedger:
    """A file of one JSON line per timing; any number of processes may append to it and read it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, timing: Timing) -> None:
        """Record a timing."""
        append_line(
            self._file,
            {
                **timing.setup.as_dict(),
                "train": timing.train.as_list(),
                "evaluation": timing.evaluation.as_list(),
                "start_s": timing.start_s,
                "save_s": timing.save_s,
                "saved_bytes": timing.saved_bytes,
                "is_warm": timing.is_warm,
            },
        )

    def timings(self) -> Iterator[Timing]:
        """Yield the latest timings, the oldest first."""
        try:
            for entry in latest_lines(self._file):
                try:
                    yield Timing(
                        Setup.from_dict(entry),
                        Work(*map(float, entry["train"])),
                        Work(*map(float, entry["evaluation"])),
                        entry["start_s"],
                        entry["save_s"],
                        entry["saved_bytes"],
                        entry["is_warm"],
                    )
                except (KeyError, TypeError, ValueError):
                    continue  # An entry of another version.
        except FileNotFoundError:
            return
