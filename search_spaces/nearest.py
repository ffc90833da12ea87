"""Configurations of a space that come nearest to a recommendation."""

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

    Every parameter has its value nearest to the wanted one: on a log scale in log ranges and among positive choices,
    else by difference; of two equally near ones the smaller. A parameter is drawn evenly where nothing is wanted of
    it, and where the wanted value cannot be compared with its own, such as a text that is none of the choices.

    Batch size and gradient accumulation are chosen together: the pair whose product is nearest to the wanted product
    on a log scale, with the least accumulation among equals.

    Args:
        wanted: settings by dotted name; of those outside the space only batch size and accumulation are read.
        rng: draws the remaining values, as part of one whole configuration.
        fixed: settings by dotted name as they are outside the space. Only batch size and accumulation are read, where
            the space holds just one of them.
    """
    found = space.sample(rng)
    for name, entry in space.entries.items():
        value = _nearest_to(entry, wanted.get(name))
        if value is not None:
            found[name] = value
    return {**found, **_nearest_batch(space.entries, wanted, fixed or {})}


def _nearest_to(entry: Entry, wanted: Scalar | None) -> Scalar | None:
    """Return the entry's value nearest to the wanted one, or None where there is none to compare."""
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
    """Return the searched ones of batch size and accumulation; nothing where no product is wanted or possible."""
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
    """Return the positive values of a parameter, of a range only those next to ``wanted``.

    A parameter that is not searched has its fixed value, and a range of floats counts for none.
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
    """Return the range's values on both sides of a number; the same one twice at its ends."""
    within = min(max(wanted, entry.low), entry.high)
    place = min(int((within - entry.low) // entry.step), entry.size - 1)
    below = entry.low + place * entry.step
    return below, min(below + entry.step, entry.high)


def _closest(values: Iterable[Number], wanted: Number, *, log: bool) -> Number:
    return min(values, key=lambda value: (_distance(value, wanted, log=log), value))


def _distance(one: Number, other: Number, *, log: bool) -> float:
    if not log:
        return abs(one - other)
    # Rounded, so that half and twice a number are equally near to it.
    return round(abs(math.log(one) - math.log(other)), 9)


def _is_number(value: Scalar | None) -> TypeGuard[Number]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Scalar | None) -> TypeGuard[Number]:
    return _is_number(value) and value > 0
