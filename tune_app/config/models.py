"""Strict pydantic models made from the declarations of settings; see ``trainables.declaration``.

A model refuses unknown keys and values of another type: YAML's types are not converted, so "3" is no number. It checks
each setting's bounds. The section's ``check``, if it has one, then checks settings that depend on each other.
"""

import dataclasses
import math
import unicodedata
import warnings
from collections.abc import Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, cast, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)

from trainables.declaration import (
    Extensible,
    Setting,
    added_settings,
    declared_fields,
    revision,
    setting_of,
    with_values,
)
from trainables.registry import RegistryError

_LARGEST = 2**63 - 1


class Section(BaseModel):
    """Base class of the models that are made from declarations."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    kind: ClassVar[type[Any]]
    """Dataclass that declares the section; the model is made from its fields."""

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        """Refuse values that no setting can mean and that would break files, databases or torch."""
        if isinstance(value, str) and any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
            raise ValueError("holds a control character or half a surrogate pair; leave it out")
        if isinstance(value, str) and not value.strip():
            raise ValueError("is blank; write something, or leave the setting out")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("is too large; give a smaller number")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if hasattr(self.kind, "check"):
            self.settings().check()
        return self

    def settings(self) -> Any:
        """Return the validated values as the dataclass that declares them."""
        names = [declared.name for declared in declared_fields(self.kind)]
        section = self.kind(**{name: _settings_of(getattr(self, name)) for name in names})
        added = {name: getattr(self, name) for name in type(self).model_fields if name not in names}
        return with_values(section, added) if added else section


def _settings_of(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_settings_of, value))
    return value.settings() if isinstance(value, Section) else value


def model_of(kind: type[Any]) -> type[Section]:
    """Return the model of a section or of a whole configuration, with all settings that entries have added so far."""
    # The revision is part of the cache's key, because entries may add settings between calls.
    return _model_of(cast("Any", kind), revision())


@lru_cache(maxsize=64)
def _model_of(kind: Any, _revision: int) -> type[Section]:
    types = get_type_hints(kind)
    fields: dict[str, Any] = {}
    for declared in declared_fields(kind):
        facts = setting_of(declared)
        fields[declared.name] = (_annotation(types[declared.name], facts), _field(declared, facts))
    if issubclass(kind, Extensible):
        for name, added in added_settings(kind.section).items():
            if name in fields:
                raise RegistryError(f"{kind.section}.{name}: {added.entries[0]} adds a setting that exists; rename it")
            fields[name] = (
                _annotation(added.kind, added.facts),
                Field(default=added.default, description=added.facts.about),
            )
    with warnings.catch_warnings():
        # ``tracking.register`` hides a method of the metaclass, which nobody calls.
        warnings.filterwarnings("ignore", 'Field name "register"', UserWarning)
        model = create_model(kind.__name__, __base__=Section, **fields)
    model.kind = kind
    return model


def validated(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return a section of validated values.

    Raises:
        ValidationError: a value is invalid.
    """
    return model_of(kind).model_validate(dict(values)).settings()


def _field(declared: "dataclasses.Field[Any]", facts: Setting) -> Any:
    described: dict[str, Any] = {"description": facts.about} if facts.about else {}
    if declared.default is not dataclasses.MISSING:
        return Field(default=_default(declared.default), **described)
    factory = declared.default_factory
    if factory is dataclasses.MISSING:
        return Field(**described)
    return Field(default_factory=lambda: _default(factory()), **described)


def _default(value: Any) -> Any:
    """Return a default in the form that the model holds; a nested section becomes a model."""
    return model_of(type(value))() if _is_section(type(value)) else value


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _annotation(kind: Any, facts: Setting) -> Any:
    """Return the type that a model's field has for a declared type and the facts about the setting."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = tuple(word for part in parts if get_origin(part) is Literal for word in get_args(part))
    number = next((part for part in parts if part in (int, float)), None)
    several = sum(part in (int, float) for part in parts) > 1
    annotation: Any = Union[tuple(part if several else _part(part, facts) for part in parts)]  # noqa: UP007
    if several:
        # With bounds on the union as a whole, a violation is one error instead of one for each type.
        annotation = _bounded(annotation, facts)
    if facts.parse is not None:
        annotation = Annotated[annotation, BeforeValidator(facts.parse)]
    elif number is not None and words:
        annotation = Annotated[annotation, BeforeValidator(_WordOrNumber(words, number, facts))]
    return annotation if facts.accepts is None else Annotated[annotation, WithJsonSchema(dict(facts.accepts))]


def _bounded(kind: Any, facts: Setting) -> Any:
    bounds = {"gt": facts.above, "ge": facts.at_least, "lt": facts.below, "le": facts.at_most}
    given = {name: cast("Any", bound) for name, bound in bounds.items() if bound is not None}
    return Annotated[kind, Field(**given)] if given else kind


def _part(part: Any, facts: Setting) -> Any:
    if part in (int, float):
        return _bounded(part, facts)
    if part is str and facts.choices is not None:
        return Literal[tuple(facts.choices())]
    if _is_section(part):
        return model_of(part)
    if get_origin(part) is tuple and any(map(_is_section, get_args(part))):
        return tuple[tuple(model_of(item) if _is_section(item) else item for item in get_args(part))]  # type: ignore[misc]
    return NoneType if part is None else part


class _WordOrNumber:
    """Validator of a setting that is one of some words or a number. Its message names both."""

    def __init__(self, words: tuple[str, ...], number: type[int] | type[float], facts: Setting) -> None:
        self._words, self._number, self._facts = words, number, facts

    def __call__(self, value: object) -> object:
        if value in self._words:
            return value
        if type(value) is int or (self._number is float and isinstance(value, float) and math.isfinite(value)):
            given = self._number(cast("float", value))
            if self._facts.contains(given):
                return given
        noun = "a whole number" if self._number is int else "a number"
        above = "" if self._facts.above is None else f" above {self._facts.above:g}"
        start = "" if self._facts.at_least is None else f" from {self._facts.at_least:g} on"
        raise ValueError(f"expected {', '.join(self._words)}, or {noun}{above}{start}")
