"""Packing of a search: the shares of a card that its trials get, and how many of them run side by side."""

import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.screening.slots import Slots

_QUEUES = 200


@dataclass(frozen=True)
class PackingForecast:
    """Packing of the trials.

    Attributes:
        at_once: trials that run side by side, rounded from the mean over random queues.
        shares: share of the trials, by the GPUs that a trial gets; empty on the CPU.
    """

    at_once: int
    shares: dict[float, float]

    def as_dict(self) -> dict[str, Any]:
        return {"at_once": self.at_once, "shares": {f"{gpus:g}": share for gpus, share in self.shares.items()}}


def packing_forecast(gpus: Sequence[float], cards: int, max_concurrent: int, seed: int) -> PackingForecast:
    """Return the packing of trials that come in random order.

    Args:
        gpus: GPUs of each of some drawn trials, at least one.
        cards: number of cards.
        max_concurrent: trials that may run at a time.
    """
    counts = Counter(gpus)
    shares = {one: counts[one] / len(gpus) for one in sorted(counts) if one > 0}
    rng = random.Random(seed)
    sizes = [_side_by_side(rng, gpus, Slots(max_concurrent, cards)) for _ in range(_QUEUES)]
    return PackingForecast(max(1, round(statistics.fmean(sizes))), shares)


def _side_by_side(rng: random.Random, gpus: Sequence[float], slots: Slots) -> int:
    """Return how many trials start before the next one has to wait."""
    while slots.take(rng.choice(gpus)) is not None:
        pass
    return slots.taken
