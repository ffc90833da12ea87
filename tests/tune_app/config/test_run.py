"""What a configuration gives the rest of the program: trial settings, parameters and classes."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from trainables import settings as trial
from trainables.seeds import trial_seeds
from tune_app.config import (
    SEARCHABLE,
    RunConfig,
    parse_config,
    searchable_names,
    with_classes,
)
from tune_app.config.conditions import conditions
from tune_app.errors import UserError

Parse = Callable[..., RunConfig]


def test_fixed_params_are_every_searchable_setting_that_has_a_value(parse: Parse) -> None:
    fixed = parse("train.epochs=7", "tok.max_length=64").fixed_params()
    assert (fixed["train.epochs"], fixed["tok.max_length"]) == (7, 64)
    without = {"model.criteria_name", "model.dropout", "model.attention_dropout"}
    assert set(searchable_names()) - set(fixed) == without, "where nothing is said of these, the model decides"
    assert {name.split(".")[0] for name in fixed} == set(SEARCHABLE)
    assert "train.patience" not in fixed, "null is no value"


SAMPLE: dict[str, Any] = {
    "model.name": "tiny-roberta",
    "tok.max_length": 64,
    "head.pooling": "mean",
    "head.dropout": 0.3,
    "optim.lr": 1e-3,
    "optim.beta2": 0.98,
    "schedule.name": "cosine",
    "schedule.warmup_ratio": 0.2,
    "schedule.cycles": 3,
    "schedule.power": 1.5,
    "train.batch_size": 48,
    "train.grad_accum": 3,
    "train.clip_norm": 0.5,
}


def test_a_sample_in_the_configuration_and_in_a_trials_settings_come_to_the_same(parse: Parse) -> None:
    config = parse("train.epochs=7", "search.seed=5", "data.columns.label=y")
    settled = config.with_params(SAMPLE)
    assert settled.space is None
    assert settled.trial_settings() == trial.with_params(config.trial_settings(), SAMPLE)
    assert {name: settled.fixed_params()[name] for name in SAMPLE} == SAMPLE
    assert settled.train.epochs == 7
    assert config.train.batch_size == 16, "the configuration itself is left alone"


def test_a_trial_gets_every_setting_and_the_seeds_of_the_one_seed(parse: Parse) -> None:
    config = parse("data.columns.text=post", "search.seed=5", "memory.eval_batch=7", "train.patience=2")
    settled = config.trial_settings()
    assert settled.seeds == trial_seeds(5)
    assert settled.data.columns.text == "post"
    for section in ("task", *SEARCHABLE, "memory"):
        # The data determines the number of classes.
        given = replace(config.task, classes=2) if section == "task" else getattr(config, section)
        assert getattr(settled, section) == given


def test_a_sample_of_what_is_no_setting_is_refused(parse: Parse) -> None:
    with pytest.raises(KeyError, match=r"optim\.rate"):
        trial.with_params(parse().trial_settings(), {"optim.rate": 1})


def test_conditions_name_existing_settings() -> None:
    known = {*searchable_names(), "task.name", "task.classes"}
    named = {condition.name for those in conditions().values() for condition in those}
    assert {*conditions(), *named} <= known


def test_a_condition_that_can_hold_lets_its_parameter_be_searched(parse: Parse) -> None:
    config = parse("loss.name=focal", "space.loss.gamma.choices=[1.0, 2.0]")
    assert config.active_space().size == 2


def test_a_configuration_takes_the_classes_of_its_data(parse: Parse) -> None:
    config = with_classes(parse(), ("no", "yes", "maybe"))
    task = config.trial_settings().task
    assert (task.classes, task.labels) == (3, ("no", "yes", "maybe"))
    assert config.fixed_for_study()["task.labels"] == ["no", "yes", "maybe"]
    assert parse_config(config.as_dict()) == config


def test_classes_called_by_their_numbers_leave_a_study_what_it_was(parse: Parse) -> None:
    assert with_classes(parse(), ("0", "1")).fixed_for_study()["task.labels"] is None


def test_labels_are_read_as_those_of_the_data(parse: Parse) -> None:
    assert parse("task.labels=[no, 1.0, true]").task.labels == ("no", "1", "true")


@pytest.mark.parametrize(
    ("overrides", "names", "message"),
    [
        (["task.classes=4"], "abc", "task.classes: 4: the data holds 3 classes (a, b, c)"),
        (["task.threshold=0.5"], "abc", "task.threshold: 0.5: is for two classes, and there are 3"),
        (["task.objective=binary_f1"], "abc", "task.objective: 'binary_f1': is for two classes"),
        (["search.metric=[macro_f1, binary_f1]", "scheduler.name=none"], "abc", "binary_f1 is for two classes"),
        (["space.task.threshold.choices=[0.4, 0.5]"], "abc", "space.task.threshold: 0.4: is for two classes"),
    ],
)
def test_settings_for_other_classes_than_the_datas_are_refused(
    parse: Parse, overrides: list[str], names: str, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        with_classes(parse("space.optim.lr.choices=[0.1]", *overrides), tuple(names))
