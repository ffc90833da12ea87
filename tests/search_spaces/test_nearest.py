"""Recommendations brought into a space: each value moves to the nearest one in the space."""

import math
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search_spaces.catalogue import CATALOGUE
from search_spaces.nearest import nearest
from search_spaces.space import Choices, Entry, FloatRange, IntRange, Scalar, Space, parse_space

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# No setting is nearer to 0, and products and ratios of such numbers do not become 0.
FLOATS = st.floats(-1e12, 1e12).filter(lambda number: number == 0 or abs(number) >= 1e-12)
NUMBERS = st.integers(-(10**6), 10**6) | FLOATS


def lists_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Entry]:
    return st.lists(values, min_size=1, max_size=5, unique=True).map(lambda choices: Choices(choices=tuple(choices)))


@st.composite
def int_ranges(draw: st.DrawFn, smallest: int = -1000) -> IntRange:
    if draw(st.booleans()):
        low = draw(st.integers(1, 1000))
        return IntRange(low=low, high=low + draw(st.integers(0, 100)), log=True)
    low, step = draw(st.integers(smallest, 1000)), draw(st.integers(1, 50))
    return IntRange(low=low, high=low + step * draw(st.integers(0, 5)), step=step)


@st.composite
def float_ranges(draw: st.DrawFn) -> FloatRange:
    log = draw(st.booleans())
    bounds = st.floats(1e-300, 1e300) if log else st.floats(allow_nan=False, allow_infinity=False)
    low, high = sorted((draw(bounds), draw(bounds)))
    return FloatRange(low=low, high=high, log=log)


NUMERIC = lists_of(st.integers(-1000, 1000)) | lists_of(FLOATS) | int_ranges() | float_ranges()
ENTRIES = NUMERIC | lists_of(st.text(max_size=5)) | lists_of(st.booleans())
NAMES = st.sampled_from(["optim.lr", "optim.eps", "model.name", "head.layers", "train.batch_size", "train.grad_accum"])
SPACES = st.dictionaries(NAMES, ENTRIES, min_size=1).map(Space)
SETTINGS = st.dictionaries(
    NAMES, NUMBERS | st.booleans() | st.text(max_size=5) | st.sampled_from([math.nan, math.inf, -math.inf])
)
COUNTS = lists_of(st.integers(1, 200)) | int_ranges(smallest=1)


def one(entry: dict[str, Any], wanted: Scalar, seed: int = 0) -> Scalar:
    """Return the value chosen for a wanted one in a space of one parameter."""
    space = parse_space({"some.setting": entry})
    return nearest(space, {"some.setting": wanted}, random.Random(seed))["some.setting"]


def batch(
    space: dict[str, Any], wanted: dict[str, Scalar], fixed: dict[str, Scalar] | None = None
) -> tuple[Scalar | None, Scalar | None]:
    found = nearest(parse_space(space), wanted, random.Random(0), fixed)
    return found.get("train.batch_size"), found.get("train.grad_accum")


# Single values


@QUICK
@given(SPACES, SETTINGS, SETTINGS, st.randoms(use_true_random=False))
def test_it_lies_in_the_space_whatever_is_wanted(
    space: Space, wanted: dict[str, Scalar], fixed: dict[str, Scalar], rng: random.Random
) -> None:
    found = nearest(space, wanted, rng, fixed)
    assert space.contains(found)
    assert list(found) == list(space)


@QUICK
@given(NUMERIC, NUMBERS)
@example(Choices(choices=(0.0, 0.1)), 0.04)
@example(IntRange(low=0, high=6, step=3), 4)
def test_no_other_value_is_nearer(entry: Entry, wanted: Scalar) -> None:
    assert isinstance(wanted, int | float)
    found = nearest(Space({"some.setting": entry}), {"some.setting": wanted}, random.Random(0))["some.setting"]
    assert isinstance(found, int | float)
    others = [entry.value_at(place) for place in range(entry.size)] if entry.size else entry.examples
    log = isinstance(entry, Choices) and min(*entry.choices, wanted) > 0
    log = log or (isinstance(entry, IntRange) and entry.log and wanted > 0)
    for other in others:
        assert isinstance(other, int | float)
        if log:
            assert abs(math.log(found / wanted)) <= abs(math.log(other / wanted)) + 1e-9
        else:
            assert abs(found - wanted) <= abs(other - wanted)


@QUICK
@given(SPACES, st.integers(0, 100))
def test_values_that_nothing_is_wanted_of_are_drawn_as_the_space_draws_them(space: Space, seed: int) -> None:
    drawn = space.sample(random.Random(seed))
    assert nearest(space, {}, random.Random(seed)) == drawn
    first, *rest = space
    found = nearest(space, {first: drawn[first]}, random.Random(seed))
    # Batch size and accumulation are chosen together, even where the recommendation names only one of them.
    apart = [name for name in rest if not (first.startswith("train.") and name.startswith("train."))]
    assert {name: found[name] for name in apart} == {name: drawn[name] for name in apart}


@pytest.mark.parametrize(
    ("entry", "wanted", "found"),
    [
        ({"low": 5e-6, "high": 1e-4, "log": True}, 2e-5, 2e-5),
        ({"low": 5e-6, "high": 1e-4, "log": True}, 3e-4, 1e-4),
        ({"low": 1e-6, "high": 0.2, "log": True}, 0.0, 1e-6),
        ({"low": 0.0, "high": 0.5}, 0.1, 0.1),
        ({"low": 0.0, "high": 2.0}, 1, 1.0),
        # 3.5e-5 is nearer to 1e-5 by difference, and to 1e-4 by ratio.
        ({"choices": [1e-5, 1e-4]}, 3.5e-5, 1e-4),
        ({"choices": [1e-5, 1e-4]}, 3e-5, 1e-5),
        ({"choices": [16, 64]}, 32, 16),
        ({"choices": [16.0, 64.0]}, 64, 64.0),
        ({"choices": [0.0, 0.06, 0.1]}, 0.01, 0.0),
        ({"choices": ["linear", "cosine"]}, "cosine", "cosine"),
        ({"choices": [False, True]}, True, True),
        ({"low": 0, "high": 6}, 0, 0),
        ({"low": 1, "high": 64, "log": True}, 2.44, 2),
        ({"low": 1, "high": 64, "log": True}, 2.46, 3),
        ({"low": 128, "high": 512, "step": 32}, 300, 288),
        ({"low": 128, "high": 512, "step": 32}, 304, 288),
        ({"low": 128, "high": 512, "step": 32}, 1e9, 512),
        ({"low": 128, "high": 512, "step": 32}, -1, 128),
    ],
)
def test_the_nearest_value(entry: dict[str, Any], wanted: Scalar, found: Scalar) -> None:
    value = one(entry, wanted)
    assert value == found
    assert type(value) is type(found)


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"choices": ["linear", "cosine"]}, "polynomial"),
        ({"choices": ["linear", "cosine"]}, 1),
        ({"choices": [False, True]}, 1),
        ({"choices": [0, 1]}, True),
        ({"choices": [1, 2]}, "2"),
        ({"low": 0, "high": 1}, "0"),
        ({"low": 0.0, "high": 1.0}, math.nan),
    ],
)
def test_a_value_that_cannot_be_compared_is_drawn(entry: dict[str, Any], wanted: Scalar) -> None:
    assert len({one(entry, wanted, seed) for seed in range(20)}) > 1


# The effective batch


@QUICK
@given(COUNTS, COUNTS, st.integers(1, 500), st.integers(1, 8))
@example(Choices(choices=(16, 32)), Choices(choices=(1, 2)), 32, 1)
def test_no_pair_comes_nearer_to_the_wanted_product_nor_takes_fewer_passes(
    sizes: Choices | IntRange, passes: Choices | IntRange, wanted_size: int, wanted_passes: int
) -> None:
    space = Space({"train.grad_accum": passes, "train.batch_size": sizes})
    wanted: dict[str, Scalar] = {"train.batch_size": wanted_size, "train.grad_accum": wanted_passes}
    found = nearest(space, wanted, random.Random(0))

    def order(params: Any) -> tuple[float, int]:
        ratio = params["train.batch_size"] * params["train.grad_accum"] / (wanted_size * wanted_passes)
        return round(abs(math.log(ratio)), 9), params["train.grad_accum"]

    assert space.size is not None
    assert order(found) == min(order(space.config_at(place)) for place in range(space.size))


SIZES = {"train.batch_size": {"choices": [4, 8, 12, 16]}}
PASSES = {"train.grad_accum": {"choices": [1, 2, 3, 4]}}


@pytest.mark.parametrize(
    ("space", "wanted", "fixed", "found"),
    [
        # 32 is 16 × 2 and 8 × 4.
        (SIZES | PASSES, {"train.batch_size": 32}, {}, (16, 2)),
        (SIZES | PASSES, {"train.batch_size": 16, "train.grad_accum": 3}, {}, (16, 3)),
        (SIZES | PASSES, {"train.batch_size": 1000}, {}, (16, 4)),
        (SIZES | PASSES, {"train.batch_size": 1}, {}, (4, 1)),
        (SIZES, {"train.batch_size": 32}, {}, (16, None)),
        (SIZES, {"train.batch_size": 32}, {"train.grad_accum": 4}, (8, None)),
        (PASSES, {"train.batch_size": 32}, {"train.batch_size": 16}, (None, 2)),
        (PASSES, {"train.batch_size": 32, "train.grad_accum": 1}, {"train.batch_size": 10}, (None, 3)),
        (PASSES, {"train.batch_size": 32, "train.grad_accum": 1}, {}, (None, 1)),
        (PASSES, {"train.grad_accum": 3}, {"train.batch_size": 16}, (None, 3)),
        ({"train.batch_size": {"low": 8, "high": 64, "step": 8}} | PASSES, {"train.batch_size": 60}, {}, (64, 1)),
    ],
)
def test_batch_and_accumulation_are_chosen_by_their_product(
    space: dict[str, Any], wanted: dict[str, Scalar], fixed: dict[str, Scalar], found: tuple[Scalar, Scalar]
) -> None:
    assert batch(space, wanted, fixed) == found


def test_a_published_recipe_comes_into_the_catalogue_spaces() -> None:
    wanted: dict[str, Scalar] = {
        "optim.lr": 2e-5,
        "train.batch_size": 32,
        "train.grad_accum": 1,
        "optim.weight_decay": 0.01,
        "schedule.warmup_ratio": 0.06,
        "train.clip_norm": 1.0,
        "head.layers": 0,
        "augment.name": "none",
    }
    wide = nearest(parse_space(CATALOGUE["wide"].entries), wanted, random.Random(0))
    assert {name: wide[name] for name in wanted} == wanted
    large = nearest(parse_space(CATALOGUE["large_models_24gb"].entries), wanted, random.Random(0))
    assert (large["train.batch_size"], large["train.grad_accum"]) == (16, 2)
