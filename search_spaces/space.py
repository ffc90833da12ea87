"""Flat search space: dotted name → choices, integer range or float range, the same for every trial.

Flat means that no entry depends on another's value, so models of any size can be sampled in any order. The rules
(``search_spaces.rules``) reject configurations that cannot run; the space itself is never adapted.
"""

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from search_spaces.quoting import quoted, short

_LONGEST_NAME = 100

Scalar = bool | int | float | str
Params = dict[str, Scalar]


class SpaceError(ValueError):
    """Error of an unusable space; the message names the entry and the remedy in one line."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Choices(_Entry):
    """List of values of one type; integers among floats become floats."""

    choices: tuple[Any, ...] = Field(strict=False)

    @field_validator("choices", mode="before")
    @classmethod
    def _a_list(cls, choices: object) -> object:
        # Pydantic would accept a set, but its order differs between processes.
        if not isinstance(choices, list | tuple):
            raise ValueError(f"{quoted(choices)} is {_type_name(choices)}; give a list such as [8, 16]")
        return choices

    @model_validator(mode="after")
    def _one_serialisable_type(self) -> Self:
        if not self.choices:
            raise ValueError("has no choices; list at least one, or drop the entry")
        for value in self.choices:
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"choice {quoted(value)} is {_type_name(value)}; use numbers, text or true/false only")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"choice {quoted(value)} is not a finite number; give one, or drop it")
        kinds = {type(value) for value in self.choices}
        if kinds == {int, float}:
            object.__setattr__(self, "choices", tuple(_as_float(value) for value in self.choices))
        elif len(kinds) > 1:
            names = " and ".join(sorted({_type_name(value) for value in self.choices}))
            raise ValueError(f"choices mix {names}; give all of them one type")
        if len(set(self.choices)) < len(self.choices):
            repeated = next(value for value, count in Counter(self.choices).items() if count > 1)
            raise ValueError(f"choice {quoted(repeated)} is listed twice; drop one")
        return self

    @property
    def size(self) -> int:
        return len(self.choices)

    def value_at(self, index: int) -> Scalar:
        value: Scalar = self.choices[index]
        return value

    def at(self, share: float) -> Scalar:
        return self.value_at(int(share * self.size))

    def contains(self, value: object) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    @property
    def examples(self) -> tuple[Scalar, ...]:
        """Values that, if they are valid, show that every value of the entry is."""
        return self.choices

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.choices)


class IntRange(_Entry):
    """Range of integers low, low + step, … up to high, drawn evenly or, with ``log``, evenly in the logarithm."""

    type: Literal["int"] = "int"
    low: int
    high: int
    step: int = Field(default=1, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}; swap them")
        if self.log:
            _check_log(self.low)
            if self.step != 1:
                raise ValueError(f"log goes with step 1 alone, not {self.step}; drop one of them, or list choices")
        if (self.high - self.low) % self.step:
            below = self.high - (self.high - self.low) % self.step
            raise ValueError(f"high {self.high} is not low + a multiple of step {self.step}; use high {below}")
        return self

    @property
    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    def value_at(self, index: int) -> Scalar:
        return self.low + index * self.step

    def at(self, share: float) -> Scalar:
        if not self.log:
            return self.value_at(int(share * self.size))
        # Like Optuna, extend both ends by one half: otherwise the ends would be drawn half as often as they should.
        drawn = math.exp(_between(math.log(self.low - 0.5), math.log(self.high + 0.5), share))
        return min(max(round(drawn), self.low), self.high)

    def contains(self, value: object) -> bool:
        return type(value) is int and self.low <= value <= self.high and (value - self.low) % self.step == 0

    @property
    def examples(self) -> tuple[Scalar, ...]:
        return (self.low, self.high)

    def __str__(self) -> str:
        by = f" by {self.step}" if self.step > 1 else ""
        return f"{self.low} to {self.high}{by}" + (", log" if self.log else "")


class FloatRange(_Entry):
    """Range of floats from low to high, drawn evenly or, with ``log``, evenly in the logarithm."""

    type: Literal["float"] = "float"
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}; swap them")
        if self.log:
            _check_log(self.low)
        return self

    @property
    def size(self) -> None:
        return None

    def at(self, share: float) -> Scalar:
        if self.log:
            value = math.exp(_between(math.log(self.low), math.log(self.high), share))
        else:
            value = _between(self.low, self.high, share)
        return min(max(value, self.low), self.high)

    def contains(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def examples(self) -> tuple[Scalar, ...]:
        return (self.low, self.high)

    def __str__(self) -> str:
        return f"any from {self.low:g} to {self.high:g}" + (", log" if self.log else "")


Entry = Choices | IntRange | FloatRange


class Space:
    """Ordered, checked mapping of dotted names to entries. Immutable."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        if not entries:
            raise SpaceError("space: is empty; name at least one parameter, e.g. optim.lr")
        self.entries: dict[str, Entry] = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(frozenset(self.entries.items()))

    @property
    def size(self) -> int | None:
        """Number of configurations; None if a float range makes it infinite."""
        total = 1
        for entry in self.entries.values():
            if entry.size is None:
                return None
            total *= entry.size
        return total

    def config_at(self, index: int) -> Params:
        """Return the configuration at an index in the fixed order of a discrete space (the last name varies fastest).

        Raises:
            IndexError: ``index`` is outside ``range(self.size)``.
            SpaceError: the space is infinite.
        """
        size = self.size
        if size is None:
            raise SpaceError("a space with a float range has no list of its configurations")
        if not 0 <= index < size:
            raise IndexError(index)
        params: Params = {}
        for name, entry in reversed(self.entries.items()):
            assert not isinstance(entry, FloatRange)
            index, place = divmod(index, entry.size)
            params[name] = entry.value_at(place)
        return {name: params[name] for name in self.entries}

    def at(self, point: Sequence[float]) -> Params:
        """Return the configuration at a point of the unit cube; each entry has one coordinate in [0, 1).

        Evenly spread points of the cube give evenly spread configurations of the space.
        """
        pairs = zip(self.entries.items(), point, strict=True)
        return {name: entry.at(share) for (name, entry), share in pairs}

    def sample(self, rng: random.Random) -> Params:
        """Draw one configuration, every entry evenly and independently."""
        return {name: _draw(entry, rng) for name, entry in self.entries.items()}

    def key(self, params: Mapping[str, Scalar]) -> str:
        """Return a text that two configurations share exactly when they are the same."""
        # A number of a float range may be 1 or 1.0, and 0.0 or -0.0.
        return json.dumps(
            [
                float(params[name]) + 0.0 if isinstance(entry, FloatRange) else params[name]
                for name, entry in self.entries.items()
            ]
        )

    def contains(self, params: Mapping[str, object]) -> bool:
        return set(params) == set(self.entries) and all(
            entry.contains(params[name]) for name, entry in self.entries.items()
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain data from which ``parse_space`` makes an equal space."""
        return {name: entry.model_dump(mode="json") for name, entry in self.entries.items()}

    def describe(self) -> str:
        """Return one line with the numbers of parameters and configurations."""
        return described(len(self), self.size)


def position_between(low: float, high: float, value: float, *, log: bool) -> float:
    """Return the position of a number in a range: 0 at its low end and 1 at its high end, beyond them outside it.

    Args:
        low: low end, below ``high``.
        log: whether the range is logarithmic. A number that has no logarithm is placed on the linear scale.
    """
    if log and low > 0 and value > 0:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def described(parameters: int, size: int | None) -> str:
    """Return one line for a space with so many parameters and configurations; None if these are infinite."""
    configurations = "endless" if size is None else f"{size:,} configurations"
    return f"{parameters} parameter{'' if parameters == 1 else 's'}, {configurations}"


def parse_space(raw: object) -> Space:
    """Build a space from plain data, as a YAML file holds it.

    Raises:
        SpaceError: an entry is invalid; the message names it (``space.<name>``), the problem and the remedy.
    """
    if not isinstance(raw, Mapping):
        raise SpaceError(f"space: expected names with choices or ranges, not {_type_name(raw)}")
    entries: dict[str, Entry] = {}
    for name, value in raw.items():
        if not isinstance(name, str):
            raise SpaceError(f"space.{quoted(name)}: a name is text such as optim.lr, not {_type_name(name)}")
        if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", name):
            raise SpaceError(f"space: {quoted(name)} is not a setting's name; write section.setting, e.g. optim.lr")
        if len(name) > _LONGEST_NAME:
            raise SpaceError(f"space: {quoted(name)} is longer than any setting's name; write one such as optim.lr")
        entries[name] = _parse_entry(name, value)
    return Space(entries)


def _parse_entry(name: str, raw: object) -> Entry:
    if isinstance(raw, Choices | IntRange | FloatRange):
        return raw
    if not isinstance(raw, Mapping):
        raise SpaceError(
            f"space.{name}: expected {{choices: […]}} or {{low: …, high: …}}, not {quoted(raw)}; a fixed value is set"
            f" outside the space, as {name}"
        )
    kind = _entry_class(name, raw)
    try:
        return TypeAdapter(kind).validate_python(dict(raw))
    except ValidationError as error:
        raise SpaceError(_problem(name, kind, error.errors()[0])) from None


def _problem(name: str, kind: type[Entry], details: Any) -> str:
    """Return pydantic's error details about an entry as one line."""
    field = short(str(details["loc"][0])) if details["loc"] else ""
    where = f"space.{name}.{field}" if field else f"space.{name}"
    allowed = ", ".join(kind.model_fields)
    match details["type"]:
        case "extra_forbidden" | "invalid_key":
            return f"{where}: unknown key; an entry is the same for every trial and has only {allowed}"
        case "missing":
            return f"{where}: is missing; give {{choices: […]}}, or low and high"
        case "value_error":
            return f"{where}: {details['msg'].removeprefix('Value error, ')}"
    expected = {
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number",
        "finite_number": "expected a finite number",
        "bool_type": "expected true or false",
        "greater_than": "expected a number above 0",
        "literal_error": "expected int or float",
    }.get(details["type"], details["msg"])
    return f"{where}: {quoted(details['input'])}: {expected}"


def _entry_class(name: str, raw: Mapping[Any, Any]) -> type[Choices] | type[IntRange] | type[FloatRange]:
    if "choices" in raw:
        return Choices
    kind = raw.get("type")
    if kind is not None and kind not in ("int", "float"):
        raise SpaceError(f"space.{name}.type: {quoted(kind)}: expected int or float")
    if kind is None:
        if any(isinstance(value, Mapping) for value in raw.values()):
            raise SpaceError(
                f"space.{name}: nested entries are not read; write each with its full dotted name, e.g."
                f" {name}.{short(str(next(iter(raw))))}"
            )
        whole = all(type(raw.get(key, 0)) is int for key in ("low", "high", "step"))
        kind = "int" if whole else "float"
    return IntRange if kind == "int" else FloatRange


def _draw(entry: Entry, rng: random.Random) -> Scalar:
    if isinstance(entry, Choices) or (isinstance(entry, IntRange) and not entry.log):
        return entry.value_at(rng.randrange(entry.size))
    return entry.at(rng.random())


def _between(low: float, high: float, share: float) -> float:
    # low + share × (high − low) would fail: the difference of two finite numbers may be infinite.
    return low * (1 - share) + high * share


def _check_log(low: float) -> None:
    if low <= 0:
        raise ValueError(f"log needs low above 0, not {low}; raise low or drop log")


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"choice {quoted(value)} is too large a number; give a smaller one") from None


def _type_name(value: object) -> str:
    names = {
        bool: "true/false",
        int: "whole numbers",
        float: "numbers",
        str: "text",
        dict: "a mapping",
        list: "a list",
    }
    if value is None:
        return "nothing (null)"
    return names.get(type(value), f"a {type(value).__name__}")
