"""Registries of named entries of one kind: ours, and those that other distributions add through an entry point.

An entry is, for example, an optimizer with its code and settings. A distribution adds one by a line of its
``pyproject.toml``::

    [project.entry-points."headroom.optimizers"]
    sgd = "my_package.sgd:SGD"

``my_package.sgd.SGD`` must be an instance of the registry's entry class. From then on ``optim.name: sgd`` is valid, and
the entry's own settings are settings like any other; see ``trainables.declaration``. Another distribution's code is
imported only when the name of its entry is looked up, or when settings are validated.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from trainables.declaration import AddedSetting, add_settings, choices_changed, extended_by, remove_settings

_REGISTRIES: list["Registry[Any]"] = []


class RegistryError(ValueError):
    """Unusable entry of another distribution. The message is one line with the distribution and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Base class of a registry's entries.

    Attributes:
        reads: dotted names of the settings that its runs read. Those that the runs of every entry read may be left out.
        settings: its own settings by name, which are added to the registry's section; see ``declaration.added``.
    """

    reads: frozenset[str] = frozenset()
    settings: Mapping[str, AddedSetting] = field(default_factory=dict, hash=False)


E = TypeVar("E", bound=Entry)


class Registry(MutableMapping[str, E], Generic[E]):
    """Entries of one kind by name: ours in their order, then those of other distributions.

    A program may also add or replace entries by assignment.

    Args:
        group: group of the entry points through which other distributions add entries.
        kind: class of the entries.
        ours: our entries.
        section: section of the configuration that chooses an entry, and to which the entries' settings are added; None
            if no setting chooses one.
        chosen_by: setting of the section that names the entry.
    """

    def __init__(
        self, group: str, kind: type[E], ours: Mapping[str, E], *, section: str | None = None, chosen_by: str = "name"
    ) -> None:
        self.group = group
        self.section = section
        self._chosen_by = chosen_by
        self._kind = kind
        self._entries: dict[str, E] = {}
        self._from_others: set[str] = set()
        _REGISTRIES.append(self)
        for name, entry in ours.items():
            self[name] = entry
        if section is not None:
            extended_by(section, self._load_all)

    @property
    def chooser(self) -> str | None:
        """Dotted name of the setting that names an entry."""
        return None if self.section is None else f"{self.section}.{self._chosen_by}"

    def __getitem__(self, name: str) -> E:
        """Return an entry; import its module if it is another distribution's.

        Raises:
            KeyError: there is no such entry.
            RegistryError: the entry cannot be imported, or has another class.
        """
        if name not in self._entries and name in (others := self._others()):
            self[name] = self._loaded(others[name])
            self._from_others.add(name)
        return self._entries[name]

    def __setitem__(self, name: str, entry: E) -> None:
        if self.section is not None:
            if name in self._entries:
                remove_settings(self.section, name)
            try:
                add_settings(self.section, name, chosen_by=self._chosen_by, **entry.settings)
            except ValueError as error:
                raise RegistryError(str(error)) from error
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]
        self._from_others.discard(name)
        if self.section is not None:
            remove_settings(self.section, name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._others()

    def __iter__(self) -> Iterator[str]:
        return iter(list(dict.fromkeys((*self._entries, *self._others()))))

    def __len__(self) -> int:
        return len({*self._entries, *self._others()})

    def forget_others(self) -> None:
        """Remove the entries of other distributions; they are imported again when they are needed."""
        for name in tuple(self._from_others):
            del self[name]

    def _others(self) -> Mapping[str, EntryPoint]:
        """Return the entry points of other distributions.

        Raises:
            RegistryError: two entries have the same name.
        """
        points = _points(self.group)
        for name in points.keys() & self._entries.keys() - self._from_others:
            raise RegistryError(
                f"{_described(points[name])} has the name of an entry of Headroom's own; uninstall it, or ask its"
                " authors for another name"
            )
        return points

    def _load_all(self) -> None:
        for name in self._others():
            if name not in self._entries:
                # Looking an entry up imports it and adds its settings.
                self[name]

    def _loaded(self, point: EntryPoint) -> E:
        what, remedy = _described(point), "mend or uninstall it"
        try:
            entry = point.load()
        except Exception as error:  # The module of another distribution may fail in any way.
            raise RegistryError(f"{what} cannot be imported: {type(error).__name__}: {error}; {remedy}") from error
        if not isinstance(entry, self._kind):
            raise RegistryError(f"{what} is no {self._kind.__name__} but {type(entry).__name__}; {remedy}")
        return entry


def imported(address: str) -> Any:
    """Import and return what an entry names by ``module:name``, so that the entry itself needs no torch."""
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


def entries_of(package: ModuleType, name: str) -> dict[str, E]:
    """Return a package's entries by the name of their module; each module holds one as its attribute ``name``."""
    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return {module: getattr(importlib.import_module(f"{package.__name__}.{module}"), name) for module in modules}


def look_again() -> None:
    """Look for entry points again, after distributions were installed or removed while the program runs."""
    for registry in _REGISTRIES:
        registry.forget_others()
    _points.cache_clear()
    choices_changed()


@cache
def _points(group: str) -> dict[str, EntryPoint]:
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in points and point.value != points[point.name].value:
            raise RegistryError(
                f"{_described(point)} and {_described(points[point.name])} have the same name; uninstall one of them"
            )
        points[point.name] = point
    return points


def _described(point: EntryPoint) -> str:
    owner = point.dist.name if point.dist else "an unknown distribution"
    return f"the entry {point.name!r} of {point.group} ({owner}: {point.value})"
