"""What a trial says while it runs: the one thing that leaves it, through its ``report`` callable."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fact = bool | int | float | str | None


@dataclass(frozen=True)
class TrialReport:
    """The state of a trial after one epoch, or at its end.

    Attributes:
        epoch: epochs finished, from 1; absolute, also in a trial that was resumed.
        value: the objective of this epoch; NaN in the report of an out-of-memory end.
        metrics: everything measured in this epoch, by name.
        facts: what became known of the trial so far, under the attribute names of the study.
        ended: None while the trial goes on; ``complete`` after its last epoch or when its patience ended it;
            ``oom`` when memory ran out.
        reason: for an end before the last epoch, why; one line.
        checkpoint: folder with the state after this epoch, or None. The receiver may move it.
    """

    epoch: int
    value: float
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    ended: Literal["complete", "oom"] | None = None
    reason: str | None = None
    checkpoint: Path | None = None


Report = Callable[[TrialReport], None]
