"""Learning-rate schedules: each rises during its warm-up, then follows its own shape."""

import math
from collections.abc import Callable

import torch

from trainables.settings import ScheduleSettings

# Smith and Topin, "Super-Convergence" (2018), with the values of torch's OneCycleLR: the first rate is a 25th of the
# peak, the last a 10,000th of the first.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 10_000


def build_schedule(
    optimizer: torch.optim.Optimizer, settings: ScheduleSettings, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Build the learning-rate schedule over ``total_steps`` optimizer steps.

    Raises:
        ValueError: ``schedule.name`` is unknown.
    """
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, total_steps, settings))


def rate_factor(step: int, total_steps: int, settings: ScheduleSettings) -> float:
    """Return the share of the peak learning rate at optimizer step ``step`` (from 0).

    The rate rises over the first ``warmup_ratio`` of the steps: linearly, or along half a cosine with ``one_cycle``.
    Then it falls to 0 at ``total_steps``: linearly, along half a cosine, or along ``cycles`` half cosines in sequence
    (``cosine_restarts``). With ``polynomial`` it falls as the power ``power`` of the remaining share. It falls nearly
    to 0 with ``one_cycle``, and not at all with ``constant``.

    Raises:
        ValueError: ``settings.name`` is no known schedule.
    """
    shape = _SHAPES.get(settings.name)
    if shape is None:
        raise ValueError(f"schedule.name: {settings.name!r} is not one of {', '.join(SCHEDULES)}")
    warmup = math.ceil(settings.warmup_ratio * total_steps)
    if step < warmup:
        # The first step already moves: a rate of 0 would waste it.
        risen = (step + 1) / (warmup + 1)
        return _between(_ONE_CYCLE_START, 1.0, risen) if settings.name == "one_cycle" else risen
    return shape(min(1.0, (step - warmup) / max(1, total_steps - warmup)), settings)


def _between(start: float, end: float, done: float) -> float:
    """Return the value at ``done`` on half a cosine from ``start`` to ``end``."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * done))


def _restarting(done: float, settings: ScheduleSettings) -> float:
    # At the very end the last cosine is over, and no other begins.
    return 0.0 if done >= 1.0 else _between(1.0, 0.0, done * settings.cycles % 1.0)


_SHAPES: dict[str, Callable[[float, ScheduleSettings], float]] = {
    "linear": lambda done, _: 1.0 - done,
    "cosine": lambda done, _: _between(1.0, 0.0, done),
    "cosine_restarts": _restarting,
    "polynomial": lambda done, settings: (1.0 - done) ** settings.power,
    "one_cycle": lambda done, _: _between(1.0, _ONE_CYCLE_END, done),
    "constant": lambda done, _: 1.0,
}
"""Share of the peak rate after a share ``done`` of the steps that follow the warm-up."""

SCHEDULES = tuple(_SHAPES)
