"""Search for the configuration of a space that is nearest to a recommendation."""

import math
import random
from collections.abc import Iterable, Mapping
from typing import TypeGuard

from search_spaces.space import Choices, Entry, FloatRange, IntRange, Params, Scalar, Space

_BATCH, _ACCUMULATION = "train.batch_size", "train.grad_accum"

Number = int | float


def nearest(
    space: Space, wanted: Mapping[str, Scalar], rng: random.Random, fixed: Mapping[str, Scalar] | None = None
) -> Params:
    """Return the configuration of the space that is nearest to the wanted settings.

    Every parameter gets its value nearest to the wanted one; among equally near values the smaller. Nearness is
    measured on a log scale in log ranges and among positive choices, else by difference. A parameter without a wanted
    value is drawn evenly. So is one whose values cannot be compared with the wanted one (a text that is no choice).

    Batch size and gradient accumulation are chosen together: the pair whose product is nearest to the wanted product
    on a log scale. Among equal pairs, the one with the least accumulation is chosen.

    Args:
        wanted: settings by dotted name. The only settings outside the space that are read are batch size and
            accumulation.
        rng: source of the remaining values, which are drawn as part of one whole configuration.
        fixed: settings outside the space, by dotted name. The only ones read are batch size and accumulation, if the
            space holds just one of them.
    """
    sample = space.sample(rng)
    for name, entry in space.entries.items():
        value = _nearest_to(entry, wanted.get(name))
        if value is not None:
            sample[name] = value
    return {**sample, **_nearest_batch(space.entries, wanted, fixed or {})}


def _nearest_to(entry: Entry, wanted: Scalar | None) -> Scalar | None:
    """Return the entry's value nearest to the wanted one; None if no value can be compared with it."""
    if isinstance(entry, Choices) and wanted is not None and entry.contains(wanted):
        return wanted
    if not _is_number(wanted):
        return None
    if isinstance(entry, FloatRange):
        return float(min(max(wanted, entry.low), entry.high))
    if isinstance(entry, IntRange):
        return _closest(_neighbours(entry, wanted), wanted, log=entry.log and wanted > 0)
    choices = [choice for choice in entry.choices if _is_number(choice)]
    return _closest(choices, wanted, log=min(*choices, wanted) > 0) if choices else None


def _nearest_batch(entries: Mapping[str, Entry], wanted: Mapping[str, Scalar], fixed: Mapping[str, Scalar]) -> Params:
    """Return batch size and accumulation, if searched; nothing if no product is wanted or possible."""
    batch, accumulation = wanted.get(_BATCH), wanted.get(_ACCUMULATION, 1)
    if not (_is_positive(batch) and _is_positive(accumulation)):
        return {}
    product = batch * accumulation
    pairs = [
        (size, passes)
        for passes in _factors(entries.get(_ACCUMULATION), fixed.get(_ACCUMULATION, accumulation))
        for size in _factors(entries.get(_BATCH), fixed.get(_BATCH, batch), wanted=product / passes)
    ]
    if not pairs:
        return {}

    def order(pair: tuple[Number, Number]) -> tuple[float, Number, Number]:
        size, passes = pair
        return _distance(size * passes, product, log=True), passes, size

    size, passes = min(pairs, key=order)
    return {name: value for name, value in ((_BATCH, size), (_ACCUMULATION, passes)) if name in entries}


def _factors(entry: Entry | None, fixed: Scalar, wanted: float | None = None) -> list[Number]:
    """Return the positive values of a parameter; for an integer range only those next to ``wanted``, if given.

    A parameter that is not searched has its fixed value. A float range has no values here.
    """
    values: Iterable[Scalar]
    match entry:
        case None:
            values = [fixed]
        case Choices():
            values = entry.choices
        case IntRange():
            whole = range(entry.low, entry.high + 1, entry.step)
            values = whole if wanted is None else _neighbours(entry, wanted)
        case FloatRange():
            values = []
    return [value for value in values if _is_positive(value)]


def _neighbours(entry: IntRange, wanted: Number) -> tuple[int, int]:
    """Return the range's values on both sides of a number; at the range's high end the same value twice."""
    within = min(max(wanted, entry.low), entry.high)
    place = min(int((within - entry.low) // entry.step), entry.size - 1)
    below = entry.low + place * entry.step
    return below, min(below + entry.step, entry.high)


def _closest(values: Iterable[Number], wanted: Number, *, log: bool) -> Number:
    return min(values, key=lambda value: (_distance(value, wanted, log=log), value))


def _distance(one: Number, other: Number, *, log: bool) -> float:
    if not log:
        return abs(one - other)
    # Rounding makes half and twice a number equally near to it.
    return round(abs(math.log(one) - math.log(other)), 9)


def _is_number(value: Scalar | None) -> TypeGuard[Number]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Scalar | None) -> TypeGuard[Number]:
    return _is_number(value) and value > 0
