"""Conditions: a parameter that nothing reads never splits a configuration in two, and always has a valid value."""

import random
from typing import Any

import pytest

from search_spaces.conditions import CONDITIONS, Above, ActiveSpace, Condition, Is, IsNot
from search_spaces.space import SpaceError, parse_space

LOSSES = {
    "optim.lr": {"choices": [0.1, 0.2]},
    "loss.name": {"choices": ["cross_entropy", "label_smoothing", "focal"]},
    "loss.gamma": {"choices": [1.0, 2.0, 3.0]},
    "loss.smoothing": {"choices": [0.1, 0.2]},
}
CHAINED: dict[str, tuple[Condition, ...]] = {
    "b": (Is("a", ("on",)),),
    "c": (Above("b", 1),),
    "d": (IsNot("b", 2), Is("e", (True,))),
}
CHAIN = {
    "d": {"choices": [7, 8]},
    "c": {"low": 0, "high": 3},
    "b": {"low": 0, "high": 2},
    "a": {"choices": ["off", "on"]},
    "e": {"choices": [False, True]},
}


def space_of(entries: dict[str, Any], fixed: dict[str, Any] | None = None, conditions: Any = CONDITIONS) -> ActiveSpace:
    return ActiveSpace(parse_space(entries), fixed, conditions)


def losses(**values: Any) -> dict[str, Any]:
    return {"optim.lr": 0.1, **{f"loss.{name}": value for name, value in values.items()}}


def test_unread_parameters_become_one_value() -> None:
    space = space_of(LOSSES)
    assert space.normalised(losses(name="cross_entropy", gamma=3.0, smoothing=0.2)) == losses(
        name="cross_entropy", gamma=1.0, smoothing=0.1
    )
    assert space.normalised(losses(name="focal", gamma=3.0, smoothing=0.2)) == losses(
        name="focal", gamma=3.0, smoothing=0.1
    )


def test_it_becomes_the_fixed_value_where_the_entry_has_that() -> None:
    drawn = losses(name="cross_entropy", gamma=3.0, smoothing=0.2)
    assert space_of(LOSSES, {"loss.gamma": 2.0}).normalised(drawn)["loss.gamma"] == 2.0
    assert space_of(LOSSES, {"loss.gamma": 9.0}).normalised(drawn)["loss.gamma"] == 1.0, "the first of its choices"
    ranged = space_of({**LOSSES, "loss.gamma": {"low": 1.0, "high": 5.0}}, {"loss.gamma": 0.5})
    assert ranged.normalised(drawn)["loss.gamma"] == 1.0, "the low end"


def test_configurations_that_are_read_alike_have_one_key() -> None:
    space = space_of(LOSSES)
    assert space.key(losses(name="focal", gamma=3.0, smoothing=0.1)) == space.key(
        losses(name="focal", gamma=3.0, smoothing=0.2)
    )
    assert space.key(losses(name="focal", gamma=3.0, smoothing=0.1)) != space.key(
        losses(name="focal", gamma=2.0, smoothing=0.1)
    )


def test_a_fixed_setting_decides_as_well_as_a_sampled_one() -> None:
    entries = {"loss.gamma": {"choices": [1.0, 2.0]}}
    assert space_of(entries, {"loss.name": "focal"}).size == 2
    assert space_of(entries, {"loss.name": "cross_entropy"}).size == 1
    assert space_of(entries).size == 2, "nothing is known of the loss"


@pytest.mark.parametrize(
    ("entries", "conditions"), [(LOSSES, CONDITIONS), (CHAIN, CHAINED), (dict(reversed(CHAIN.items())), CHAINED)]
)
def test_every_distinct_configuration_is_listed_once(entries: dict[str, Any], conditions: Any) -> None:
    space = space_of(entries, None, conditions)
    whole = space.space
    assert whole.size is not None
    distinct = {space.key(whole.config_at(index)) for index in range(whole.size)}
    assert space.size == len(distinct) < whole.size
    listed = [space.config_at(index) for index in range(space.size)]
    assert {space.key(params) for params in listed} == distinct
    for params in listed:
        assert list(params) == list(entries)
        assert whole.contains(params)
        assert space.normalised(params) == params
    with pytest.raises(IndexError):
        space.config_at(space.size)


def test_without_conditions_the_order_is_that_of_the_flat_space() -> None:
    space = space_of(CHAIN, None, {})
    assert space.size == space.space.size == 96
    assert [space.config_at(index) for index in range(96)] == [space.space.config_at(index) for index in range(96)]


def test_a_parameter_whose_condition_is_not_read_is_not_read_either() -> None:
    space = space_of(CHAIN, None, CHAINED)
    off = space.normalised({"a": "off", "b": 2, "c": 3, "d": 8, "e": True})
    assert off == {"a": "off", "b": 0, "c": 0, "d": 7, "e": True}


def test_a_float_range_that_is_read_makes_the_space_endless_and_one_that_is_not_does_not() -> None:
    entries = {**LOSSES, "loss.gamma": {"low": 1.0, "high": 5.0}}
    endless = space_of(entries)
    assert endless.size is None
    with pytest.raises(SpaceError):
        endless.config_at(0)
    del entries["loss.name"]
    assert space_of(entries, {"loss.name": "label_smoothing"}).size == 4
    deciding = {"x": {"low": 0.0, "high": 1.0}, "y": {"choices": [1, 2]}}
    assert space_of(deciding, None, {"y": (Above("x", 0.5),)}).size is None


def test_a_sample_is_normalised() -> None:
    space, rng = space_of(LOSSES), random.Random(0)
    for _ in range(50):
        params = space.sample(rng)
        assert space.normalised(params) == params
        assert space.space.contains(params)


@pytest.mark.parametrize(
    ("name", "fixed", "unmet"),
    [
        ("loss.gamma", {"loss.name": "cross_entropy"}, "loss.name=focal"),
        ("loss.gamma", {"loss.name": "focal"}, None),
        ("head.width", {"head.layers": 0}, "head.layers above 0"),
    ],
)
def test_a_parameter_that_no_configuration_reads_is_named_with_its_condition(
    name: str, fixed: dict[str, Any], unmet: str | None
) -> None:
    found = space_of({name: {"choices": [1.0, 2.0]}}, fixed).never_read()
    assert {name: str(condition) for name, condition in found.items()} == ({} if unmet is None else {name: unmet})


def test_a_space_that_never_takes_the_value_reads_it_never() -> None:
    entries = {**LOSSES, "loss.name": {"choices": ["cross_entropy", "label_smoothing"]}}
    assert list(space_of(entries).never_read()) == ["loss.gamma"]
    low = {"b": {"low": 0, "high": 1}, "c": {"low": 0, "high": 3}}
    assert {name: str(found) for name, found in space_of(low, {"a": "on"}, CHAINED).never_read().items()} == {
        "c": "b above 1"
    }
    chained = space_of({"c": {"low": 0, "high": 3}}, {"b": 2, "a": "off"}, CHAINED).never_read()
    assert {name: str(found) for name, found in chained.items()} == {"c": "a=on"}
    excluded = space_of({"b": {"choices": [2]}, "d": {"choices": [7]}}, {"a": "on", "e": True}, CHAINED).never_read()
    assert {name: str(found) for name, found in excluded.items()} == {"d": "b other than 2"}


def test_the_shape_says_what_each_parameter_may_be_and_when_it_is_read() -> None:
    space = space_of(
        {
            "optim.lr": {"low": 5e-6, "high": 3e-4, "log": True},
            "loss.name": {"choices": ["cross_entropy", "focal"]},
            "loss.gamma": {"low": 1.0, "high": 5.0},
            "tok.max_length": {"low": 128, "high": 512, "step": 32},
            "schedule.power": {"choices": [1.0, 2.0]},
        },
        {"schedule.name": "polynomial"},
    )
    assert space.shape() == [
        "optim.lr        any from 5e-06 to 0.0003, log",
        "loss.name       cross_entropy, focal",
        "loss.gamma      any from 1 to 5  only with loss.name=focal",
        "tok.max_length  128 to 512 by 32",
        "schedule.power  1.0, 2.0",
    ]
    assert space.describe() == "5 parameters, endless"
    assert space_of(LOSSES).describe() == "4 parameters, 12 configurations"
    assert space_of({"optim.lr": {"low": 1e-5, "high": 1e-4}}).describe() == "1 parameter, endless"
