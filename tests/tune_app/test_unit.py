"""Units: what trials report in, which report stands for a trial, and where schedulers have something to stop."""

from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from tune_app.rungs import stopping_steps
from tune_app.search.scheduler import LenientAsha, LenientHyperBand, build_scheduler
from tune_app.unit import Unit, telling_step, value_so_far


def test_a_unit_names_its_setting() -> None:
    assert (str(Unit("epoch", 1)), Unit("epoch", 1).setting) == ("1 epoch", "train.epochs")
    assert (str(Unit("fold", 5)), Unit("fold", 5).setting) == ("5 folds", "data.folds")


@pytest.mark.parametrize(
    ("values", "by_epoch", "by_fold"),
    [
        ({}, (0, None), (0, None)),
        ({1: 0.5}, (1, 0.5), (1, 0.5)),
        ({1: 0.5, 2: 0.9, 3: 0.9, 4: 0.1}, (2, 0.9), (4, 0.1)),
        ({3: 0.2, 1: 0.5}, (1, 0.5), (3, 0.2)),
    ],
)
def test_a_trial_is_worth_its_best_epoch_or_the_mean_of_all_its_folds(
    values: dict[int, float], by_epoch: tuple[int, float | None], by_fold: tuple[int, float | None]
) -> None:
    assert (telling_step("epoch", values), value_so_far("epoch", values)) == by_epoch
    assert (telling_step("fold", values), value_so_far("fold", values)) == by_fold


STEPS = (1, 2, 3, 4, 5, 6, 9, 10, 20, 27, 81, 100)


@pytest.mark.parametrize("warmup", [1, 2, 3, 5])
@pytest.mark.parametrize("factor", [2, 3, 4, 10])
def test_rungs_lie_where_ray_places_them(warmup: int, factor: int) -> None:
    for steps in (count for count in STEPS if count >= warmup):
        options: dict[str, Any] = {"steps": steps, "warmup": warmup, "reduction_factor": factor, "startup_trials": 0}
        asha, hyperband = build_scheduler("asha", **options), build_scheduler("hyperband", **options)
        assert isinstance(asha, LenientAsha)
        assert isinstance(hyperband, LenientHyperBand)
        assert stopping_steps("asha", steps, warmup, factor) == _rungs_of_asha(asha, steps)
        assert stopping_steps("hyperband", steps, warmup, factor) == _rungs_of_hyperband(hyperband, steps)
        assert stopping_steps("none", steps, warmup, factor) == []


def _rungs_of_asha(scheduler: LenientAsha, steps: int) -> list[int]:
    (bracket,) = scheduler._brackets
    return sorted(milestone for milestone, _ in bracket._rungs if milestone < steps)


def _rungs_of_hyperband(scheduler: LenientHyperBand, steps: int) -> list[int]:
    found = set()
    for number in range(scheduler._s_max_1):
        if scheduler._get_r0(number) == 0:
            continue
        bracket = scheduler._create_bracket(number)
        while bracket._halves > 0:
            found.add(bracket._cumul_r)
            bracket.successive_halving("value", 1.0)
    return sorted(step for step in found if step < steps)


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_schedulers_are_deaf_to_what_is_said_within_a_fold(name: str) -> None:
    scheduler = build_scheduler(name, steps=5, warmup=1, reduction_factor=3, startup_trials=0)
    # A trial that was never added: who listened would stumble.
    said: dict[str, Any] = {"value": float("nan"), "step": 0, "fold_epoch": 3, "ended": None}
    assert scheduler.on_trial_result(None, None, said) == TrialScheduler.CONTINUE  # type: ignore[arg-type]
    with pytest.raises((AttributeError, KeyError)):
        scheduler.on_trial_result(None, None, {**said, "step": 1, "fold_epoch": None})  # type: ignore[arg-type]
