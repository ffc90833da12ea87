"""Overrides of settings and of entries of the space."""

from collections.abc import Callable
from typing import Any

import pytest

from search_spaces.rules import LimitSet
from search_spaces.space import Choices, FloatRange
from tune_app.config import (
    RunConfig,
    parse_config,
)
from tune_app.errors import UserError

Parse = Callable[..., RunConfig]
AssertOneLine = Callable[[pytest.ExceptionInfo[UserError], list[str]], None]


def test_a_misspelt_key_of_an_entry_is_told_from_a_new_entry(
    assert_one_line: AssertOneLine, least: dict[str, Any]
) -> None:
    raw = {**least, "space": {"optim.lr": {"choices": [0.1]}}}
    with pytest.raises(UserError) as caught:
        parse_config(raw, ["space.optim.lr.choces=[0.2]"])
    assert_one_line(caught, ["space.optim.lr.choces", "did you mean choices?"])


def test_the_last_override_of_a_setting_stands(parse: Parse) -> None:
    assert parse("train.epochs=5", "train.epochs=7").train.epochs == 7


def test_overrides_reach_nested_settings(parse: Parse) -> None:
    config = parse(
        "data.columns.label=target",
        "limits=users_24gb",
        "limits.large.batch=8",
        "train={epochs: 9}",
        "train.patience=2",
        "model.name='a = b'",
    )
    assert config.data.columns.label == "target"
    (limits,) = config.limits
    assert isinstance(limits, LimitSet)
    assert (limits.large.batch, limits.large.length) == (8, 384)
    assert (config.train.epochs, config.train.patience) == (9, 2)
    assert config.model.name == "a = b"


def test_overrides_replace_add_and_drop_entries_of_the_space(least: dict[str, Any]) -> None:
    raw = {**least, "space": {"optim.lr": {"low": 0.1, "high": 0.2}, "train.batch_size": {"choices": [8]}}}
    config = parse_config(
        raw,
        [
            "space.optim.lr={choices: [0.3]}",
            "space.train.batch_size=null",
            "space.head.dropout.low=0.0",
            "space.head.dropout.high=0.5",
            "space.model.name.choices=[tiny-bert, tiny-roberta]",
        ],
    )
    assert config.space is not None
    assert config.space.as_dict() == {
        "optim.lr": {"choices": [0.3]},
        "head.dropout": {"type": "float", "low": 0.0, "high": 0.5, "log": False},
        "model.name": {"choices": ["tiny-bert", "tiny-roberta"]},
    }


def test_an_override_changes_one_key_of_an_entry(least: dict[str, Any]) -> None:
    raw = {**least, "space": {"optim.lr": {"low": 0.1, "high": 0.2}}}
    config = parse_config(raw, ["space.optim.lr.high=0.5", "space.optim.lr.log=true"])
    assert config.space is not None
    assert config.space.entries["optim.lr"] == FloatRange(low=0.1, high=0.5, log=True)


def test_a_space_that_is_null_can_be_filled_from_the_command_line(least: dict[str, Any]) -> None:
    config = parse_config({**least, "space": None}, ["space.optim.lr.choices=[0.1]"])
    assert config.space is not None
    assert config.space.entries == {"optim.lr": Choices(choices=(0.1,))}


def test_a_space_can_be_dropped_whole(least: dict[str, Any]) -> None:
    assert parse_config({**least, "space": {"optim.lr": {"choices": [0.1]}}}, ["space=null"]).space is None


def test_overrides_leave_the_callers_data_alone(least: dict[str, Any]) -> None:
    raw = {**least, "space": {"optim.lr": {"choices": [0.1]}}}
    parse_config(raw, ["train.epochs=5", "space.optim.lr.choices=[0.2]"])
    assert raw == {**least, "space": {"optim.lr": {"choices": [0.1]}}}
