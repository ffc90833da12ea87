"""Learning-rate schedules, compared with those of transformers and torch."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from trainables.schedules import SCHEDULES
from trainables.settings import OptimSettings, ScheduleSettings
from trainables.training.optimizer import build_optimizer
from trainables.training.schedule import build_schedule, rate_factor

FALLING = [name for name in SCHEDULES if name not in ("cosine_restarts", "constant")]

THEIRS: dict[str, Callable[[Any, int], Any]] = {
    "linear": lambda optimizer, steps: transformers.get_linear_schedule_with_warmup(optimizer, 0, steps),
    "cosine": lambda optimizer, steps: transformers.get_cosine_schedule_with_warmup(optimizer, 0, steps),
    "cosine_restarts": lambda optimizer, steps: transformers.get_cosine_with_hard_restarts_schedule_with_warmup(
        optimizer, 0, steps, num_cycles=3
    ),
    "polynomial": lambda optimizer, steps: transformers.get_polynomial_decay_schedule_with_warmup(
        optimizer, 0, steps, lr_end=0.0, power=1.5
    ),
    "constant": lambda optimizer, steps: transformers.get_constant_schedule(optimizer),
}


def factors(name: str, steps: int, warmup_ratio: float = 0.0, **options: Any) -> list[float]:
    settings = ScheduleSettings(name, warmup_ratio, **options)
    return [rate_factor(step, steps, settings) for step in range(steps)]


def rates(schedule: Any) -> list[float]:
    """Return the rates of 20 optimizer steps."""
    seen = []
    for _ in range(20):
        seen.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return seen


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)


@pytest.mark.parametrize("name", THEIRS)
def test_the_shape_is_that_of_transformers(name: str) -> None:
    assert factors(name, 20, cycles=3, power=1.5) == pytest.approx(rates(THEIRS[name](sgd(), 20)))


def test_one_cycle_has_torchs_first_rate_peak_and_last_rate() -> None:
    ours = factors("one_cycle", 400, warmup_ratio=0.3)
    theirs = OneCycleLR(sgd(), max_lr=1.0, total_steps=400, pct_start=0.3)
    theirs_seen = []
    for _ in range(400):
        theirs_seen.append(theirs.get_last_lr()[0])
        theirs.optimizer.step()
        if len(theirs_seen) < 400:
            theirs.step()
    # Torch counts from the first step to the last, Headroom counts the steps between: they differ by about half a step.
    assert ours == pytest.approx(theirs_seen, abs=0.02)


@pytest.mark.parametrize("name", FALLING)
def test_after_the_warm_up_the_rate_only_falls(name: str) -> None:
    seen = factors(name, 100, warmup_ratio=0.1)
    assert seen[10] == 1.0
    assert all(earlier < later for earlier, later in pairwise(seen[:11]))
    assert all(earlier > later for earlier, later in pairwise(seen[10:]))


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "one_cycle"])
def test_the_warm_up_is_a_line_that_leaves_zero_at_the_first_step(name: str) -> None:
    assert factors(name, 100, warmup_ratio=0.1)[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "constant"])
def test_beyond_the_last_step_hardly_anything_is_left(name: str) -> None:
    settings = ScheduleSettings(name, 0.1)
    assert all(0.0 <= rate_factor(step, 100, settings) < 1e-5 for step in (100, 150))


def test_restarts_come_at_equal_distances() -> None:
    seen = factors("cosine_restarts", 40, cycles=4)
    assert [step for step, factor in enumerate(seen) if factor == 1.0] == [0, 10, 20, 30]


def test_a_higher_power_falls_sooner() -> None:
    assert factors("polynomial", 10, power=1.0) == pytest.approx(factors("linear", 10))
    assert factors("polynomial", 10, power=3.0)[5] < factors("polynomial", 10, power=2.0)[5]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("total_steps", [1, 2, 7])
def test_no_step_is_wasted_on_a_rate_of_zero(name: str, warmup_ratio: float, total_steps: int) -> None:
    assert all(0.0 < factor <= 1.0 for factor in factors(name, total_steps, warmup_ratio))


@pytest.mark.parametrize("step", [0, 5])
def test_an_unknown_schedule_is_refused_at_once(step: int) -> None:
    with pytest.raises(ValueError, match=r"schedule\.name: 'step' is not one of linear, cosine, cosine_restarts"):
        rate_factor(step, 10, ScheduleSettings("step", 0.5))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_optimizer_follows_the_schedule(name: str) -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimSettings(lr=0.5))
    schedule = build_schedule(optimizer, ScheduleSettings(name, warmup_ratio=0.25), total_steps=20)
    assert rates(schedule) == pytest.approx([0.5 * factor for factor in factors(name, 20, warmup_ratio=0.25)])
