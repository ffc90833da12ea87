"""Flat, checked spaces: an accepted one can be listed, sampled and saved; a rejection explains the fault."""

import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces.space import Choices, FloatRange, IntRange, Space, SpaceError, parse_space

# The time of an example depends on the machine more than on our code.
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.from_regex(r"[a-z_]{1,6}(\.[a-z_0-9]{1,6}){0,2}", fullmatch=True)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def lists_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(values, min_size=1, max_size=4, unique=True).map(lambda choices: {"choices": choices})


@st.composite
def int_ranges(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        low, high = sorted((draw(st.integers(1, 1000)), draw(st.integers(1, 1000))))
        return {"type": "int", "low": low, "high": min(high, low + 300), "log": True}
    low, step = draw(st.integers(-1000, 1000)), draw(st.integers(1, 50))
    return {"type": "int", "low": low, "high": low + step * draw(st.integers(0, 5)), "step": step}


@st.composite
def float_ranges(draw: st.DrawFn) -> dict[str, Any]:
    log = draw(st.booleans())
    bounds = st.floats(min_value=1e-300, max_value=1e300) if log else FINITE
    low, high = sorted((draw(bounds), draw(bounds)))
    return {"type": "float", "low": low, "high": high, "log": log}


DISCRETE_ENTRIES = st.one_of(
    lists_of(st.integers()), lists_of(FINITE), lists_of(st.text(max_size=5)), lists_of(st.booleans()), int_ranges()
)
DISCRETE_SPACES = st.dictionaries(NAMES, DISCRETE_ENTRIES, min_size=1, max_size=3).map(parse_space)
SPACES = st.dictionaries(NAMES, DISCRETE_ENTRIES | float_ranges(), min_size=1, max_size=4).map(parse_space)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# Nearly valid spaces, so that the inner checks are reached too.
ALMOST_ENTRIES = st.dictionaries(
    st.sampled_from(["choices", "low", "high", "step", "log", "type", "if", "values"]),
    JSON | st.sampled_from(["int", "float"]) | st.lists(st.integers() | FINITE, max_size=4),
    max_size=4,
)

USERS_SPACE = {
    "model.name": {"choices": ["bert-base-uncased", "bert-large-uncased", "xlm-roberta-base", "roberta-large"]},
    "tok.max_length": {"low": 128, "high": 512, "step": 32},
    "train.batch_size": {"choices": [8, 12, 16, 24, 32, 48, 64]},
    "train.grad_accum": {"choices": [1, 2, 3, 4, 6, 8]},
    "optim.lr": {"low": 5e-6, "high": 3e-4, "log": True},
}


@QUICK
@given(SPACES)
def test_a_space_written_down_and_read_again_is_the_same(space: Space) -> None:
    again = parse_space(space.as_dict())
    assert again == space
    assert hash(again) == hash(space)
    assert list(again) == list(space)


@QUICK
@given(SPACES, st.randoms(use_true_random=False))
def test_every_draw_lies_in_the_space(space: Space, rng: random.Random) -> None:
    for _ in range(5):
        params = space.sample(rng)
        assert space.contains(params)
        assert list(params) == list(space)


@QUICK
@given(DISCRETE_SPACES)
def test_a_discrete_space_lists_each_of_its_configurations_once_in_a_fixed_order(space: Space) -> None:
    assert space.size is not None
    listed = [space.config_at(index) for index in range(space.size)]
    assert all(space.contains(params) for params in listed)
    assert len({space.key(params) for params in listed}) == space.size
    assert listed == [space.config_at(index) for index in range(space.size)]


def test_the_last_name_turns_fastest() -> None:
    space = parse_space({"a": {"choices": ["x", "y"]}, "b": {"low": 1, "high": 5, "step": 2}})
    listed = [tuple(space.config_at(index).values()) for index in range(6)]
    assert listed == [("x", 1), ("x", 3), ("x", 5), ("y", 1), ("y", 3), ("y", 5)]


@pytest.mark.parametrize("index", [-1, 4])
def test_there_is_nothing_outside_the_list(index: int) -> None:
    with pytest.raises(IndexError):
        parse_space({"a": {"choices": [1, 2, 3, 4]}}).config_at(index)


def test_a_float_range_makes_a_space_endless() -> None:
    space = parse_space({"a": {"choices": [1, 2]}, "b": {"low": 0.0, "high": 1.0}})
    assert space.size is None
    with pytest.raises(SpaceError, match="float range"):
        space.config_at(0)


@QUICK
@given(SPACES, st.randoms(use_true_random=False))
def test_two_configurations_share_a_key_exactly_when_they_are_equal(space: Space, rng: random.Random) -> None:
    drawn = [space.sample(rng) for _ in range(6)]
    for one in drawn:
        for other in drawn:
            assert (space.key(one) == space.key(other)) == (one == other)


def test_a_whole_number_of_a_float_range_has_the_key_of_the_float() -> None:
    space = parse_space({"a": {"low": -1.0, "high": 1.0}})
    assert space.key({"a": 1}) == space.key({"a": 1.0})
    assert space.key({"a": 0.0}) == space.key({"a": -0.0})


def test_equal_spaces_have_equal_hashes_whatever_their_order() -> None:
    a, b = {"choices": [1, 2]}, {"choices": ["x"]}
    one, other = parse_space({"a": a, "b": b}), parse_space({"b": b, "a": a})
    assert one == other
    assert hash(one) == hash(other)


@settings(QUICK, max_examples=200)
@given(JSON | st.dictionaries(NAMES | st.text(max_size=5), ALMOST_ENTRIES | JSON, max_size=3))
def test_anything_else_is_refused_in_one_line(raw: Any) -> None:
    try:
        space = parse_space(raw)
    except SpaceError as error:
        message = str(error)
        assert message.startswith("space")
        assert len(message.splitlines()) == 1
        assert len(message) < 400
    else:
        assert isinstance(raw, dict)
        assert space.contains(space.sample(random.Random(0)))


REFUSED: list[tuple[str, Any, list[str]]] = [
    ("nothing", None, ["space:", "null", "names with choices"]),
    ("a list", [1], ["space:", "a list"]),
    ("no parameter", {}, ["space:", "empty", "name at least one"]),
    ("a name that is no text", {3: {"choices": [1]}}, ["space.3", "text"]),
    ("a name that is no name", {"optim lr\n": {"choices": [1]}}, ["'optim lr\\n'", "optim.lr"]),
    ("an empty name", {"": {"choices": [1]}}, ["space:", "''", "optim.lr"]),
    ("a bare value", {"a": 3}, ["space.a:", "3", "outside the space"]),
    ("null", {"a": None}, ["space.a:", "None", "choices"]),
    ("a bare list", {"a": [1, 2]}, ["space.a:", "[1, 2]", "{choices"]),
    ("an empty entry", {"a": {}}, ["space.a.low", "choices"]),
    ("no choices", {"a": {"choices": []}}, ["space.a:", "no choices", "drop the entry"]),
    ("text as choices", {"a": {"choices": "abc"}}, ["space.a.choices", "'abc'", "list"]),
    ("a set as choices", {"a": {"choices": {1}}}, ["space.a.choices", "{1}", "list"]),
    ("null as choices", {"a": {"choices": None}}, ["space.a.choices", "None", "list"]),
    ("null among choices", {"a": {"choices": [1, None]}}, ["space.a:", "None", "null"]),
    ("text among numbers", {"a": {"choices": [1, "x"]}}, ["space.a:", "mix text and whole numbers", "one type"]),
    ("true among numbers", {"a": {"choices": [1, True]}}, ["space.a:", "mix true/false", "one type"]),
    ("a list among choices", {"a": {"choices": [[1]]}}, ["space.a:", "[1]", "a list"]),
    ("a mapping among choices", {"a": {"choices": [{"low": 1}]}}, ["space.a:", "a mapping"]),
    ("a choice twice", {"a": {"choices": [1, 2, 1]}}, ["space.a:", "1 is listed twice", "drop one"]),
    ("a choice twice as float", {"a": {"choices": [1, 2.5, 1.0]}}, ["space.a:", "1.0 is listed twice"]),
    ("a NaN choice", {"a": {"choices": [1.0, math.nan]}}, ["space.a:", "nan", "finite"]),
    ("an infinite choice", {"a": {"choices": [math.inf]}}, ["space.a:", "inf", "finite"]),
    ("a choice beyond all floats", {"a": {"choices": [0.5, 10**400]}}, ["space.a:", "too large", "smaller"]),
    ("a condition", {"a": {"choices": [1], "if": {"model.name": "x"}}}, ["space.a.if", "same for every trial"]),
    ("choices and a range", {"a": {"choices": [1], "low": 1}}, ["space.a.low", "unknown key"]),
    ("entries in an entry", {"model": {"name": {"choices": ["x"]}}}, ["space.model:", "nested", "model.name"]),
    ("choices as a bound", {"a": {"low": {"choices": [1]}, "high": 2}}, ["space.a:", "nested"]),
    ("low alone", {"a": {"low": 1}}, ["space.a.high", "missing"]),
    ("low above high", {"a": {"low": 3, "high": 1}}, ["space.a:", "low 3 is above high 1", "swap"]),
    ("low above high, floats", {"a": {"low": 0.3, "high": 0.1}}, ["space.a:", "low 0.3 is above high 0.1"]),
    ("a NaN bound", {"a": {"low": math.nan, "high": 1.0}}, ["space.a.low", "nan", "finite"]),
    ("an infinite bound", {"a": {"low": 0.0, "high": math.inf}}, ["space.a.high", "inf", "finite"]),
    ("a bound beyond all floats", {"a": {"low": 0.5, "high": 10**400}}, ["space.a.high", "number"]),
    ("text as a bound", {"a": {"low": "5e-5", "high": 1.0}}, ["space.a.low", "'5e-5'", "number"]),
    ("true as a bound", {"a": {"low": True, "high": 4}}, ["space.a.low", "True", "number"]),
    ("a step that misses high", {"a": {"low": 1, "high": 4, "step": 2}}, ["space.a:", "high 4", "use high 3"]),
    ("a step of nothing", {"a": {"low": 1, "high": 4, "step": 0}}, ["space.a.step", "0", "above 0"]),
    ("a step of floats", {"a": {"low": 0.0, "high": 1.0, "step": 0.5}}, ["space.a.step", "unknown key"]),
    ("log from 0", {"a": {"low": 0.0, "high": 1.0, "log": True}}, ["space.a:", "log", "above 0", "0.0"]),
    ("log from below 0", {"a": {"low": -1, "high": 1, "log": True}}, ["space.a:", "log", "-1"]),
    ("log in steps", {"a": {"low": 8, "high": 64, "step": 8, "log": True}}, ["space.a:", "step 1", "8", "choices"]),
    ("log that is no truth", {"a": {"low": 1.0, "high": 2.0, "log": 1}}, ["space.a.log", "1", "true or false"]),
    ("an unknown type", {"a": {"type": "uniform", "low": 1, "high": 2}}, ["space.a.type", "'uniform'", "int or float"]),
    ("a list as type", {"a": {"type": [], "low": 1, "high": 2}}, ["space.a.type", "[]", "int or float"]),
    ("an unknown key", {"a": {"low": 1, "high": 2, "prior": "x"}}, ["space.a.prior", "unknown key", "low, high"]),
    ("a key that is no text", {"a": {"low": 1, "high": 2, 5: 3}}, ["space.a.5", "unknown key"]),
]


@pytest.mark.parametrize(("raw", "parts"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_refusal_names_the_entry_the_value_and_the_remedy(raw: Any, parts: list[str]) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_space(raw)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert [part for part in parts if part not in message] == [], message


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(SpaceError) as caught:
        parse_space({"a": "x" * 10_000})
    assert len(str(caught.value)) < 300


def test_whole_numbers_among_floats_are_floats() -> None:
    entry = parse_space({"a": {"choices": [0, 0.1, 1]}}).entries["a"]
    assert isinstance(entry, Choices)
    assert entry.choices == (0.0, 0.1, 1.0)
    assert {type(choice) for choice in entry.choices} == {float}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"low": 1, "high": 8}, IntRange(low=1, high=8)),
        ({"low": 128, "high": 512, "step": 32}, IntRange(low=128, high=512, step=32)),
        ({"low": 1, "high": 8.0}, FloatRange(low=1.0, high=8.0)),
        ({"low": 1, "high": 8, "log": True}, IntRange(low=1, high=8, log=True)),
        ({"low": 1, "high": 8, "log": True, "type": "float"}, FloatRange(low=1.0, high=8.0, log=True)),
        ({"low": 1, "high": 8.0, "log": True}, FloatRange(low=1.0, high=8.0, log=True)),
        ({"low": 1, "high": 8, "type": "float"}, FloatRange(low=1.0, high=8.0)),
        ({"low": 2, "high": 2}, IntRange(low=2, high=2)),
    ],
)
def test_a_range_is_of_whole_numbers_where_all_it_is_given_is_whole(raw: Any, expected: Any) -> None:
    assert parse_space({"a": raw}).entries["a"] == expected


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ({"choices": [1, 2]}, [1, 2], [True, 1.0, 3, "1", None]),
        ({"choices": [True]}, [True], [1, False, "true"]),
        ({"choices": ["a"]}, ["a"], ["b", 1, None]),
        ({"low": 2, "high": 6, "step": 2}, [2, 4, 6], [0, 3, 8, 4.0, True]),
        ({"low": 0.0, "high": 1.0}, [0.0, 1, 0.5], [-0.1, 1.1, True, "0.5", math.nan]),
    ],
)
def test_values_belong_to_an_entry_by_type_and_by_value(entry: Any, inside: list[Any], outside: list[Any]) -> None:
    space = parse_space({"a": entry})
    assert [value for value in inside if not space.contains({"a": value})] == []
    assert [value for value in outside if space.contains({"a": value})] == []


def test_a_configuration_has_all_names_and_no_others() -> None:
    space = parse_space({"a": {"choices": [1]}, "b": {"choices": [1]}})
    assert space.contains({"b": 1, "a": 1})
    assert not space.contains({"a": 1})
    assert not space.contains({"a": 1, "b": 1, "c": 1})


def test_large_and_base_models_are_drawn_in_any_order() -> None:
    space = parse_space(USERS_SPACE)
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(2000)]
    assert all(space.contains(params) for params in drawn)
    counts = Counter(params["model.name"] for params in drawn)
    assert set(counts) == set(USERS_SPACE["model.name"]["choices"])
    assert all(count > 400 for count in counts.values()), "each is drawn evenly"


def test_a_log_range_is_drawn_evenly_in_the_logarithm() -> None:
    space = parse_space({"a": {"low": 1e-6, "high": 1e-2, "log": True}})
    rng = random.Random(0)
    drawn = [space.sample(rng)["a"] for _ in range(1000)]
    assert 400 < sum(value < 1e-4 for value in drawn) < 600  # type: ignore[operator]


def test_whole_numbers_in_a_log_range_are_drawn_evenly_in_the_logarithm_to_both_ends() -> None:
    space = parse_space({"a": {"low": 8, "high": 64, "log": True}})
    rng = random.Random(0)
    drawn = [space.sample(rng)["a"] for _ in range(3000)]
    assert {type(value) for value in drawn} == {int}
    thirds = Counter(sum(value >= edge for edge in (16, 32)) for value in drawn)  # type: ignore[operator]
    assert all(900 < thirds[third] < 1100 for third in range(3)), thirds
    assert {8, 64} <= set(drawn)
    points = [space.at([share])["a"] for share in (0.0, 0.5, 1 - 1e-12)]
    assert points == [8, 22, 64]


def test_the_widest_float_range_can_be_drawn_from() -> None:
    space = parse_space({"a": {"low": -1.7e308, "high": 1.7e308}})
    assert all(space.contains(space.sample(random.Random(seed))) for seed in range(100))


def test_the_same_seed_draws_the_same() -> None:
    space = parse_space(USERS_SPACE)
    one, other = random.Random(7), random.Random(7)
    assert [space.sample(one) for _ in range(10)] == [space.sample(other) for _ in range(10)]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"a": {"choices": [1, 2]}, "b": {"low": 1, "high": 600}}, "2 parameters, 1,200 configurations"),
        ({"a": {"low": 0.0, "high": 1.0}}, "1 parameter, endless"),
    ],
)
def test_a_space_says_how_large_it_is(raw: Any, text: str) -> None:
    assert parse_space(raw).describe() == text
