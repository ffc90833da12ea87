"""Spaces of the catalogue in a configuration: ``space: {from: wide, …}``, written out in full before it is checked."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.catalogue import CATALOGUE, NamedSpace
from search_spaces.conditions import ActiveSpace
from search_spaces.quoting import quoted
from search_spaces.space import Scalar, SpaceError, parse_space
from tune_app.errors import UserError, nearest

FROM = "from"


def write_out(raw: dict[str, Any], check_name: Callable[[str], None]) -> NamedSpace | None:
    """Put the entries of the space that is named in its place; an entry beside the name replaces, null removes.

    Args:
        check_name: raises UserError where a name, which is to be removed, is that of no parameter.

    Returns:
        The space of the catalogue; None where none is named.

    Raises:
        UserError: there is no such space, or an entry that is removed cannot be in any.
    """
    space = raw.get("space")
    if isinstance(space, str):
        space = {FROM: space}
    if not isinstance(space, dict) or FROM not in space:
        return None
    name = space[FROM]
    if not isinstance(name, str) or name not in CATALOGUE:
        hint = nearest(name, CATALOGUE) if isinstance(name, str) else ""
        raise UserError(f"space.{FROM}: {quoted(name)}: unknown{hint} (known: {', '.join(CATALOGUE)})")
    named = CATALOGUE[name]
    entries = {**copy.deepcopy(dict(named.entries)), **{key: entry for key, entry in space.items() if key != FROM}}
    for key in (str(key) for key, entry in entries.items() if entry is None):
        check_name(key)
    raw["space"] = {key: entry for key, entry in entries.items() if entry is not None}
    return named


def settle(
    raw: dict[str, Any], named: NamedSpace, fixed_outside: Callable[[dict[str, Any]], Mapping[str, Scalar]]
) -> None:
    """Let what the configuration says itself stand before what comes with a space of the catalogue.

    A setting that it gives is not searched; those that go with the space are set where it gives none; and an entry that
    no run would read with these settings is left out.

    Args:
        fixed_outside: every setting of a configuration by its dotted name, as it is outside the space.
    """
    space = raw.get("space")
    if not isinstance(space, dict):
        return
    for name in _from_catalogue(space, named):
        if _gives(raw, name):
            del space[name]
    for name, value in named.settings_for(_models(raw, space)).items():
        if name not in space and not _gives(raw, name):
            *section, key = name.split(".")
            values = raw.setdefault(section[0], {}) if section else raw
            values[key] = value
    try:
        unread = ActiveSpace(parse_space(space), fixed_outside(raw)).never_read()
    except SpaceError:
        return  # It is said when the space is checked.
    for name in _from_catalogue(space, named) & unread.keys():
        del space[name]


def _from_catalogue(space: Mapping[str, Any], named: NamedSpace) -> set[str]:
    return {name for name, entry in named.entries.items() if space.get(name) == entry}


def _gives(raw: Mapping[str, Any], name: str) -> bool:
    section, _, key = name.partition(".")
    values = raw.get(section)
    return isinstance(values, Mapping) and key in values if key else section in raw


def _models(raw: Mapping[str, Any], space: Mapping[str, Any]) -> list[str]:
    entry, fixed = space.get("model.name"), raw.get("model")
    if isinstance(entry, Mapping):
        found = entry.get("choices", [])
        return [str(model) for model in found] if isinstance(found, list) else []
    return [str(fixed.get("name"))] if isinstance(fixed, Mapping) else []
