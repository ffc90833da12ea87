"""Scale of steps: its kinds, the report that represents a trial, and the points where schedulers can stop it."""

from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from tune_app.distributed.hyperband import LenientHyperBand
from tune_app.distributed.scheduler import build_scheduler
from tune_app.schedulers import SCHEDULERS
from tune_app.step_scale import StepScale

EPOCHS, RUNGS, FOLDS = (
    StepScale.of(folds=None, epochs=4),
    StepScale.of(folds=None, epochs=3, per_epoch=4),
    StepScale("fold", 5),
)


def test_a_unit_names_its_setting_and_its_steps() -> None:
    assert (str(EPOCHS), EPOCHS.setting, EPOCHS.label(3)) == ("4 epochs", "train.epochs", "epoch 3")
    assert (str(FOLDS), FOLDS.setting, FOLDS.label(2)) == ("5 folds", "data.folds", "fold 2")
    assert (str(RUNGS), RUNGS.setting, RUNGS.label(3)) == ("3 epochs in 12 rungs", "train.epochs", "epoch 0.75")
    assert StepScale.of(folds=5, epochs=3, per_epoch=4) == FOLDS, "folds are never cut into rungs"


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
    assert (EPOCHS.representative_step(values), EPOCHS.value_so_far(values)) == by_epoch
    assert (FOLDS.representative_step(values), FOLDS.value_so_far(values)) == by_fold


def test_reports_within_an_epoch_do_not_stand_for_a_trial() -> None:
    assert RUNGS.value_so_far({1: 0.9, 2: 0.8, 3: 0.95}) is None
    assert (
        RUNGS.representative_step(values := {3: 0.95, 4: 0.5, 7: 0.99, 8: 0.6, 9: 0.7}),
        RUNGS.value_so_far(values),
    ) == (
        8,
        0.6,
    )


STEPS = (1, 2, 3, 4, 5, 6, 9, 10, 20, 27, 81, 100)


@pytest.mark.parametrize("warmup", [1, 2, 3, 5])
@pytest.mark.parametrize("factor", [2, 3, 4, 10])
def test_rungs_of_hyperband_lie_where_ray_places_them(warmup: int, factor: int) -> None:
    for steps in (count for count in STEPS if count >= warmup):
        scheduler = build_scheduler("hyperband", steps=steps, warmup=warmup, reduction_factor=factor, startup_trials=0)
        assert isinstance(scheduler, LenientHyperBand)
        assert SCHEDULERS["hyperband"].stopping_steps(steps, warmup, factor) == _rungs_of_hyperband(scheduler, steps)
        assert SCHEDULERS["none"].stopping_steps(steps, warmup, factor) == []


def test_rungs_of_asha_grow_by_the_factor_and_end_before_the_last_step() -> None:
    assert SCHEDULERS["asha"].stopping_steps(12, 1, 3) == [1, 3, 9]
    assert SCHEDULERS["asha"].stopping_steps(9, 1, 3) == [1, 3], "a trial ends at its last step by itself"
    assert SCHEDULERS["asha"].stopping_steps(12, 2, 2) == [2, 4, 8]
    assert SCHEDULERS["asha"].stopping_steps(3, 3, 3) == []


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
    # The trial was never added, so a scheduler that reads its report would raise.
    fold_report: dict[str, Any] = {"value": float("nan"), "step": 0, "fold_epoch": 3, "ended": None}
    assert scheduler.on_trial_result(None, None, fold_report) == TrialScheduler.CONTINUE  # type: ignore[arg-type]
    with pytest.raises((AttributeError, KeyError)):
        scheduler.on_trial_result(None, None, {**fold_report, "step": 1, "fold_epoch": None})  # type: ignore[arg-type]
