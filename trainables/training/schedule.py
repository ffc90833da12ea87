"""The learning-rate schedule of a run: it rises during its warm-up, then follows its own shape."""

import math

import torch

from trainables.schedules import SCHEDULES
from trainables.settings import ScheduleSettings


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
    if settings.name not in SCHEDULES:
        raise ValueError(f"schedule.name: {settings.name!r} is not one of {', '.join(SCHEDULES)}")
    schedule = SCHEDULES[settings.name]
    warmup = math.ceil(settings.warmup_ratio * total_steps)
    if step < warmup:
        # The first step already moves: a rate of 0 would waste it.
        return schedule.rises((step + 1) / (warmup + 1))
    return schedule.falls(min(1.0, (step - warmup) / max(1, total_steps - warmup)), settings)
