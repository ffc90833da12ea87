"""Parameters that are read only while others have certain values, and the distinct configurations of a space.

The space stays flat: every trial has a value for every entry. Two configurations that differ only in values that
nothing reads are the same training. An unread parameter therefore always has the same value.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

from search_spaces.space import Entry, FloatRange, Params, Scalar, Space, SpaceError, described


class Condition(Protocol):
    """Condition on another parameter, ``name``, under which a parameter is read. Its text is ``loss.name=focal``."""

    @property
    def name(self) -> str: ...

    def holds(self, value: Scalar) -> bool: ...

    def value_of(self, entry: Entry) -> Scalar | None:
        """Return a value of the entry that meets the condition; None if no value does."""
        ...


@dataclass(frozen=True)
class Is:
    """Condition that ``name`` has one of ``values``."""

    name: str
    values: tuple[Scalar, ...]

    def holds(self, value: Scalar) -> bool:
        return value in self.values

    def value_of(self, entry: Entry) -> Scalar | None:
        return next((value for value in self.values if entry.contains(value)), None)

    def __str__(self) -> str:
        return f"{self.name}={' or '.join(_shown(value) for value in self.values)}"


@dataclass(frozen=True)
class IsNot:
    """Condition that ``name`` has any value but ``value``."""

    name: str
    value: Scalar

    def holds(self, value: Scalar) -> bool:
        return value != self.value

    def value_of(self, entry: Entry) -> Scalar | None:
        return next((value for value in entry.examples if self.holds(value)), None)

    def __str__(self) -> str:
        return f"{self.name} other than {_shown(self.value)}"


@dataclass(frozen=True)
class Meets:
    """Condition that the value of ``name`` meets a test; ``text`` says which, after the name."""

    name: str
    text: str
    test: Callable[[Scalar], bool]

    def holds(self, value: Scalar) -> bool:
        return self.test(value)

    def value_of(self, entry: Entry) -> Scalar | None:
        return next((value for value in entry.examples if self.holds(value)), None)

    def __str__(self) -> str:
        return f"{self.name} {self.text}"


@dataclass(frozen=True)
class Above:
    """Condition that ``name`` is a number above ``bound``."""

    name: str
    bound: float

    def holds(self, value: Scalar) -> bool:
        return isinstance(value, int | float) and value > self.bound

    def value_of(self, entry: Entry) -> Scalar | None:
        return next((value for value in entry.examples if self.holds(value)), None)

    def __str__(self) -> str:
        return f"{self.name} above {self.bound:g}"


CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "head.width": (Above("head.layers", 0),),
    "head.activation": (Above("head.layers", 0),),
    "loss.smoothing": (Is("loss.name", ("label_smoothing",)),),
    "loss.gamma": (Is("loss.name", ("focal",)),),
    "loss.alpha": (Is("loss.name", ("focal",)),),
    "task.threshold": (Is("task.classes", (2,)),),
}
"""Parameter → conditions that must all hold for a run to read it.

Further conditions follow from the chosen task, optimizer, schedule and augmentation, and from the model's family.
"""


class ActiveSpace:
    """Flat space in which a parameter that no run reads always has the same value.

    That value is the one fixed outside the space if the entry contains it, else the entry's first. The entry thus
    always contains it.

    Args:
        fixed: settings outside the space, by dotted name. A setting that neither ``fixed`` nor the space holds meets
            every condition.
    """

    def __init__(
        self,
        space: Space,
        fixed: Mapping[str, Scalar] | None = None,
        conditions: Mapping[str, tuple[Condition, ...]] = CONDITIONS,
    ) -> None:
        self.space = space
        self.fixed = dict(fixed or {})
        self._all_conditions = conditions
        self.conditions = {name: conditions[name] for name in space if name in conditions}
        """Conditions of the entries that are not always read."""
        self._resting = {name: _resting(space.entries[name], self.fixed.get(name)) for name in self.conditions}

    def is_active(self, name: str, params: Mapping[str, Scalar]) -> bool:
        """Return whether a run with these values and the fixed settings reads the parameter."""
        return all(
            self._holds(condition, params) and self.is_active(condition.name, params)
            for condition in self._all_conditions.get(name, ())
        )

    def normalised(self, params: Mapping[str, Scalar]) -> Params:
        """Return the configuration with every unread parameter set to its one value."""
        return {
            name: value if name not in self._resting or self.is_active(name, params) else self._resting[name]
            for name, value in params.items()
        }

    def key(self, params: Mapping[str, Scalar]) -> str:
        """Return a text that two configurations share exactly when the values that runs read are the same."""
        return self.space.key(self.normalised(params))

    def sample(self, rng: random.Random) -> Params:
        """Draw one configuration: every entry evenly and independently, then normalised."""
        return self.normalised(self.space.sample(rng))

    def never_read(self) -> dict[str, Condition]:
        """Return the entries that no run of any configuration reads: name → the condition that can never hold."""
        unread = {}
        for name in self.conditions:
            unmet = self._unmet(name)
            if unmet is not None:
                unread[name] = unmet
        return unread

    def activated(self, name: str, params: Mapping[str, Scalar]) -> Params:
        """Return the configuration changed so that ``name`` is read; only values that conditions look at change.

        Raises:
            ValueError: no configuration of the space reads ``name``.
        """
        changed = dict(params)
        for condition in self._all_conditions.get(name, ()):
            if not self._holds(condition, changed):
                entry = self.space.entries.get(condition.name)
                value = None if entry is None else condition.value_of(entry)
                if value is None:
                    raise ValueError(f"{name} is read only with {condition}, which no configuration of the space has")
                changed[condition.name] = value
            changed = self.activated(condition.name, changed)
        return changed

    @cached_property
    def size(self) -> int | None:
        """Number of distinct configurations; None if it is infinite."""
        sizes = [group.size for group in self._groups]
        return None if None in sizes else prod(size for size in sizes if size is not None)

    def config_at(self, index: int) -> Params:
        """Return the configuration at an index in the fixed order of a discrete space (the last group varies fastest).

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
        for group in reversed(self._groups):
            assert group.size is not None
            index, place = divmod(index, group.size)
            params |= group.config_at(place)
        return {name: params[name] for name in self.space}

    def describe(self) -> str:
        """Return one line with the numbers of parameters and configurations."""
        return described(len(self.space), self.size)

    def shape(self) -> list[str]:
        """Return one line per parameter: its values, and the conditions under which a run reads them."""
        entries = {name: str(entry) for name, entry in self.space.entries.items()}
        depends = {name: [c for c in conditions if c.name in entries] for name, conditions in self.conditions.items()}
        names = max(map(len, entries))
        widest = max((len(entries[name]) for name, conditions in depends.items() if conditions), default=0)
        return [
            f"{name:<{names}}  {values:<{widest}}  only with {' and '.join(map(str, depends[name]))}"
            if depends.get(name)
            else f"{name:<{names}}  {values}"
            for name, values in entries.items()
        ]

    def _holds(self, condition: Condition, params: Mapping[str, Scalar]) -> bool:
        value = params.get(condition.name, self.fixed.get(condition.name))
        return value is None or condition.holds(value)

    def _unmet(self, name: str) -> Condition | None:
        for condition in self._all_conditions.get(name, ()):
            entry = self.space.entries.get(condition.name)
            can_hold = self._holds(condition, {}) if entry is None else condition.value_of(entry) is not None
            unmet = self._unmet(condition.name) if can_hold else condition
            if unmet is not None:
                return unmet
        return None

    @cached_property
    def _groups(self) -> list["_Group"]:
        """Groups of entries that depend on each other, in the order of their first entries."""
        group_of = {name: [name] for name in self.space}
        for name, conditions in self.conditions.items():
            for condition in conditions:
                mine, others = group_of[name], group_of.get(condition.name, [])
                if others and others is not mine:
                    mine += others
                    group_of |= dict.fromkeys(others, mine)
        order = list(self.space)
        distinct = {id(members): members for members in group_of.values()}.values()
        return [_Group(self, sorted(members, key=order.index)) for members in distinct]


class _Group:
    """Distinct configurations of entries that depend on each other and on no other entry.

    They form blocks, one for every combination of the values that conditions look at.
    """

    def __init__(self, space: ActiveSpace, names: list[str]) -> None:
        entries = {name: space.space.entries[name] for name in names}
        looked_at = {condition.name for name in names for condition in space.conditions.get(name, ())}
        deciding = {name: entry for name, entry in entries.items() if name in looked_at}
        self._space = space
        self._entries = entries
        self._blocks: list[tuple[Params, Space | None]] = []
        self.size: int | None = None
        if any(isinstance(entry, FloatRange) for entry in deciding.values()):
            return
        for values in _configurations(deciding):
            if space.normalised(values) != values:
                continue  # The normalised form of these values is counted instead.
            free = {name: entry for name, entry in entries.items() if name not in deciding}
            active = {name: entry for name, entry in free.items() if space.is_active(name, values)}
            self._blocks.append((values, Space(active) if active else None))
        sizes = [1 if block is None else block.size for _, block in self._blocks]
        self.size = None if None in sizes else sum(size for size in sizes if size is not None)

    def config_at(self, place: int) -> Params:
        for values, block in self._blocks:
            size = 1 if block is None else block.size
            assert size is not None
            if place < size:
                chosen = {**values, **(block.config_at(place) if block else {})}
                # The other entries are inactive: normalising replaces whatever value they have here.
                others = {name: entry.examples[0] for name, entry in self._entries.items() if name not in chosen}
                return self._space.normalised({**chosen, **others})
            place -= size
        raise IndexError(place)


def _configurations(entries: Mapping[str, Entry]) -> list[Params]:
    if not entries:
        return [{}]
    space = Space(entries)
    assert space.size is not None
    return [space.config_at(index) for index in range(space.size)]


def _resting(entry: Entry, fixed: Scalar | None) -> Scalar:
    return fixed if fixed is not None and entry.contains(fixed) else entry.examples[0]


def _shown(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
