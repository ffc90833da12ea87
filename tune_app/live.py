"""A trial in progress as the driver knows it."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Live:
    """What a trial has reported so far, over all its resumes where they left values in the study."""

    number: int
    params: dict[str, Any]
    values: dict[int, float] = field(default_factory=dict)
    ended: str | None = None
    reason: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)
    error: dict[str, str] | None = None
    retries: int = 0

    @property
    def epoch(self) -> int:
        return max(self.values, default=0)

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest value, as the trial itself counts it."""
        best = max(self.values.values(), default=math.nan)
        return min((epoch for epoch, value in self.values.items() if value == best), default=0)
