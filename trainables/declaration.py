"""Declarations of settings: each setting's type, default, bounds and description are declared once.

A section of the configuration is a frozen dataclass, and each of its fields declares a setting::

    @dataclass(frozen=True)
    class TrainSettings(Extensible):
        section = "train"

        batch_size: int = setting(16, "Rows in one optimizer step.", above=0, at_most=65536)

``tune_app.config`` makes the validator, the reference page and the JSON schema from these fields. A trial gets the
dataclasses themselves and trusts their values.

An entry of a registry, whether ours or another distribution's, adds its own settings to the section that chooses it::

    momentum = added(float, 0.9, "Weight of the previous step.", at_least=0, below=1)
    add_settings("optim", "sgd", momentum=momentum)

From then on ``optim.momentum`` is a setting like any other: validated, listed in the reference, part of the schema,
searchable in a space and exported. It counts as read only while ``optim.name`` is ``sgd``. The entry's code reads it as
``settings.optim["momentum"]``.

Settings must be added before a configuration is loaded, best where the entry registers itself. A registry that gains an
entry without settings calls ``choices_changed``, so that the setting that chooses an entry accepts the new name. Files
and records hold an added setting only if its value differs from the default, so that studies begun without the entry
stay the same.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, cast

Scalar = bool | int | float | str
T = TypeVar("T")
S = TypeVar("S")

_METADATA = "setting"


@dataclass(frozen=True)
class Setting:
    """Facts about a setting beside its name, type and default.

    Attributes:
        about: description for people, in plain English.
        above: exclusive lower bound.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
        at_most: inclusive upper bound.
        choices: returns the names that a text may have; None allows any text.
        parse: converts a value from a file before its type is checked, and raises ValueError for an invalid one.
        accepts: JSON schema of what ``parse`` accepts; None describes the field's type.
        same_in_study: reason and remedy if a space must not vary the setting; None if it may.
        compared: False if a trial's value does not depend on the setting, so that a study may change it.
    """

    about: str
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: Callable[[], Iterable[str]] | None = None
    parse: Callable[[object], object] | None = None
    accepts: Mapping[str, Any] | None = None
    same_in_study: str | None = None
    compared: bool = True

    def contains(self, number: float) -> bool:
        """Return whether a number lies within the bounds."""
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )

    @property
    def metadata(self) -> Mapping[str, "Setting"]:
        """Metadata of the dataclass field that declares the setting."""
        return {_METADATA: self}


def setting(default: T, about: str, **facts: Any) -> T:
    """Return a dataclass field that declares a setting; ``facts`` are further attributes of ``Setting``."""
    return field(default=default, metadata=Setting(about, **facts).metadata)


def section(kind: Callable[[], T], about: str) -> T:
    """Return a dataclass field that declares a section of settings, all of which have defaults."""
    return field(default_factory=kind, metadata=Setting(about).metadata)


def setting_of(declared: "dataclasses.Field[Any]") -> Setting:
    """Return the facts about the setting that a field declares; empty facts for a field that declares none."""
    return cast("Setting", declared.metadata.get(_METADATA) or Setting(""))


@dataclass(frozen=True)
class AddedSetting:
    """Setting that entries of a registry add to a section.

    Attributes:
        kind: type of its values.
        entries: names of the entries that read it.
        chosen_by: field of the section that names the entry.
    """

    kind: type[bool] | type[int] | type[float] | type[str]
    default: Scalar
    facts: Setting
    entries: tuple[str, ...] = ()
    chosen_by: str = "name"


def added(
    kind: type[bool] | type[int] | type[float] | type[str], default: Scalar, about: str, **facts: Any
) -> AddedSetting:
    """Return the declaration of a setting for ``add_settings``; ``facts`` are further attributes of ``Setting``."""
    return AddedSetting(kind, default, Setting(about, **facts))


# Added settings by section and name, and functions that add more of them when a section's are first needed.
_ADDED: dict[str, dict[str, AddedSetting]] = {}
_SOURCES: dict[str, list[Callable[[], None]]] = {}
_changes = 0


def add_settings(section: str, entry: str, /, *, chosen_by: str = "name", **settings: AddedSetting) -> None:
    """Add the settings of a registry's entry to a section. Several entries may share a setting.

    Args:
        section: name of the section, such as ``optim``.
        entry: name of the entry, which is the value of ``<section>.<chosen_by>`` while the settings are read.

    Raises:
        ValueError: another entry declares a setting of the same name differently.
    """
    choices_changed()
    known = _ADDED.setdefault(section, {})
    for name, declared in settings.items():
        before = known.get(name, declared)
        if dataclasses.replace(before, entries=(), chosen_by="name") != declared:
            raise ValueError(
                f"{section}.{name}: {entry} and {', '.join(before.entries)} declare it differently; name one of them"
                " otherwise"
            )
        entries = tuple(dict.fromkeys((*before.entries, entry)))
        known[name] = dataclasses.replace(declared, entries=entries, chosen_by=chosen_by)


def remove_settings(section: str, entry: str) -> None:
    """Remove the settings that an entry added, except those that other entries share."""
    choices_changed()
    for name, declared in list(_ADDED.get(section, {}).items()):
        entries = tuple(other for other in declared.entries if other != entry)
        if entries:
            _ADDED[section][name] = dataclasses.replace(declared, entries=entries)
        else:
            del _ADDED[section][name]


def choices_changed() -> None:
    """Note that a registry gained or lost an entry, so that configurations loaded from now on know it."""
    global _changes
    _changes += 1


def revision() -> int:
    """Return a number that changes whenever settings are added or removed, or choices change."""
    return _changes


def extended_by(section: str, load: Callable[[], None]) -> None:
    """Register a function that adds the missing settings of a section; it is called whenever they are read."""
    _SOURCES.setdefault(section, []).append(load)


def added_settings(section: str) -> Mapping[str, AddedSetting]:
    """Return the settings that entries of registries added to a section, by name."""
    for load in _SOURCES.get(section, ()):
        load()
    return MappingProxyType(_ADDED.get(section, {}))


@dataclass(frozen=True)
class Extensible:
    """Base class of sections to which entries of registries add settings.

    Attributes:
        section: name of the section.
        added: values of added settings that differ from their defaults, by name, in alphabetical order.
    """

    section: ClassVar[str]

    added: tuple[tuple[str, Scalar], ...] = field(default=(), kw_only=True)

    def __getitem__(self, name: str) -> Scalar:
        """Return the value of an added setting.

        Raises:
            KeyError: no entry added a setting of this name.
        """
        return {**_added_defaults(self), **dict(self.added)}[name]


def _added_defaults(section: object) -> dict[str, Scalar]:
    if not isinstance(section, Extensible):
        return {}
    return {name: declared.default for name, declared in added_settings(section.section).items()}


def declared_fields(kind: type[Any]) -> tuple["dataclasses.Field[Any]", ...]:
    """Return the fields of a section that declare its settings."""
    return tuple(declared for declared in dataclasses.fields(kind) if declared.name != "added")


def values_of(section: Any, *, with_defaults: bool = False) -> dict[str, Any]:
    """Return a section's values by name, nested sections as dictionaries.

    Args:
        with_defaults: include added settings that have their defaults.
    """
    values = {declared.name: _plain(getattr(section, declared.name)) for declared in declared_fields(type(section))}
    defaults = _added_defaults(section) if with_defaults else {}
    return {**values, **defaults, **dict(getattr(section, "added", ()))}


def _plain(value: Any) -> Any:
    is_section = dataclasses.is_dataclass(value) and not isinstance(value, type)
    if isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value):
        return tuple(map(_plain, value))
    return values_of(value) if is_section else value


def is_setting(section: object, name: str) -> bool:
    """Return whether a section has a setting of this name; False for an object that is no section."""
    if not dataclasses.is_dataclass(section) or isinstance(section, type):
        return False
    names = {declared.name for declared in declared_fields(type(section))}
    return name in names or name in _added_defaults(section)


def with_values(section: S, values: Mapping[str, Any]) -> S:
    """Return a section with other values for some of its settings, given by name.

    Raises:
        TypeError: a name is no setting of the section.
    """
    defaults = _added_defaults(section)
    changed = {name: value for name, value in values.items() if name not in defaults}
    if defaults:
        extra = {**dict(getattr(section, "added", ())), **{name: values[name] for name in defaults if name in values}}
        changed["added"] = tuple(sorted((name, value) for name, value in extra.items() if value != defaults.get(name)))
    return dataclasses.replace(section, **changed)  # type: ignore[type-var]
