"""Reports of a trial: folds, epochs or shares of one, and the steps at which a scheduler may stop it."""

from collections.abc import Callable
from typing import Any

import pytest

from tune_app.config import (
    RunConfig,
    parse_config,
)
from tune_app.errors import UserError

Parse = Callable[..., RunConfig]
AssertOneLine = Callable[[pytest.ExceptionInfo[UserError], list[str]], None]

SEARCHED = "space.optim.lr.choices=[0.1]"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["data.folds=1"], ["data.folds:", "1", "greater than or equal to 2"]),
        (["data.folds=5.0"], ["data.folds:", "5.0", "whole number"]),
        (["data.folds=5", "scheduler.warmup=5"], ["scheduler.warmup:", "5 leaves asha", "5 folds (data.folds)"]),
        (
            ["data.folds=2", "scheduler.name=hyperband"],
            ["scheduler.reduction_factor:", "3", "2 folds (data.folds)", "rounded down 0", "scheduler.warmup 1"],
        ),
        (
            ["data.folds=5", "scheduler.warmup_epochs=2"],
            ["scheduler.warmup_epochs:", "2 counts epochs", "data.folds 5"],
        ),
    ],
)
def test_folds_that_fit_nothing_are_refused_with_the_numbers(
    parse: Parse, assert_one_line: AssertOneLine, overrides: list[str], parts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        parse(*overrides, SEARCHED)
    assert_one_line(caught, parts)


def test_with_folds_the_scheduler_counts_folds_whatever_the_epochs(parse: Parse) -> None:
    config = parse("data.folds=5", "scheduler.warmup=4", "train.epochs=1", SEARCHED)
    assert (config.step_scale.name, config.step_scale.count) == ("fold", 5)
    assert parse("train.epochs=7").step_scale.count == 7
    assert config.trial_settings().data.folds == 5
    assert config.fixed_for_study()["data.folds"] == 5


def test_a_run_without_a_search_may_have_one_epoch(parse: Parse) -> None:
    assert parse("train.epochs=1").step_scale.count == 1


def test_the_warmup_is_understood_by_its_old_name_and_the_last_word_counts(parse: Parse, least: dict[str, Any]) -> None:
    old = {**least, "scheduler": {"warmup_epochs": 2}}
    assert parse_config(old).scheduler.warmup == 2
    assert parse_config(old, ["scheduler.warmup_epochs=3"]).scheduler.warmup == 3
    assert parse_config(old, ["data.folds=5", "scheduler.warmup=1"]).scheduler.warmup == 1
    assert parse("scheduler.warmup=1", "scheduler.warmup_epochs=2").scheduler.warmup == 2
    assert "warmup_epochs" not in parse_config(old).as_dict()["scheduler"]


def test_trials_of_few_epochs_report_every_half_of_one_where_a_scheduler_may_stop_them(least: dict[str, Any]) -> None:
    def step_scale(*overrides: str) -> str:
        given = {**least, "space": {"optim.lr": {"choices": [0.1]}}}
        return str(parse_config(given, overrides).step_scale)

    assert step_scale("train.epochs=3") == "3 epochs in 6 rungs"
    assert step_scale("train.epochs=5") == "5 epochs"
    assert step_scale("train.epochs=9") == "9 epochs"
    assert step_scale("train.epochs=9", "scheduler.rung=0.5") == "9 epochs in 18 rungs"
    assert step_scale("train.epochs=3", "scheduler.rung=epoch") == "3 epochs"
    assert step_scale("train.epochs=3", "scheduler.name=none") == "3 epochs"
    assert step_scale("train.epochs=3", "scheduler.warmup=1") == "3 epochs", "the first rung lies at an epoch's end"
    assert step_scale("train.epochs=3", "data.folds=4") == "4 folds"
    with pytest.raises(UserError, match=r"scheduler\.rung: 0\.25 .* data\.folds 4 .* scheduler\.rung=auto"):
        step_scale("scheduler.rung=0.25", "data.folds=4")


def test_a_report_within_an_epoch_of_few_steps_is_left_out_unless_it_is_asked_for(least: dict[str, Any]) -> None:
    def reports(rows: int, *overrides: str) -> int:
        space = "space={train.batch_size: {choices: [16, 32]}, train.grad_accum: {choices: [1, 2]}}"
        return parse_config(least, ["train.epochs=3", space, *overrides]).reports_per_epoch(rows)

    # Effective batches from 16 to 64, in the middle 32: half an epoch of 3,200 rows is 50 steps.
    assert reports(3200) == 2
    assert reports(3100) == 1
    assert reports(100, "scheduler.rung=0.25") == 4
    assert reports(100, "scheduler.rung=epoch") == 1
    # Without it, nothing could stop a trial of one epoch.
    assert reports(100, "train.epochs=1") == 2


def test_the_warmup_counts_epochs_whatever_the_rungs(least: dict[str, Any]) -> None:
    given = {**least, "space": {"optim.lr": {"choices": [0.1]}}}
    assert parse_config(given, ["scheduler.rung=0.25", "scheduler.warmup=2"]).first_rung == 8
    assert parse_config(given, ["scheduler.rung=0.25", "scheduler.warmup=0.3"]).first_rung == 2
    assert parse_config(given, []).first_rung == 1
    assert parse_config(given, ["scheduler.warmup=2", "train.epochs=9"]).first_rung == 2


def test_the_old_name_of_the_warmup_goes_with_rungs_and_not_with_folds(least: dict[str, Any]) -> None:
    given = {**least, "scheduler": {"warmup_epochs": 1}, "space": {"optim.lr": {"choices": [0.1]}}}
    assert parse_config(given, ["scheduler.rung=0.25"]).first_rung == 4
    with pytest.raises(UserError, match=r"scheduler\.warmup_epochs: 1 counts epochs"):
        parse_config(given, ["data.folds=4"])
