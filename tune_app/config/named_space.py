"""Named spaces in a configuration: ``space: {from: wide, …}``, written out in full before the space is checked."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.catalogue import CATALOGUE, NamedSpace
from search_spaces.quoting import quoted
from search_spaces.space import Scalar, SpaceError, parse_space
from trainables.models.sizes import family_of
from trainables.task_registry import TASKS
from tune_app.config.conditions import active_space
from tune_app.errors import UserError, nearest

FROM = "from"


def write_out(raw: dict[str, Any], check_name: Callable[[str], None]) -> NamedSpace | None:
    """Replace the name of a space by its entries. An entry beside the name replaces the space's own, null removes it.

    Args:
        raw: raw configuration, changed in place.
        check_name: called with each name to remove; raises UserError if no parameter has it.

    Returns:
        The space of the catalogue; None if none is named.

    Raises:
        UserError: there is no such space, or no parameter has the name of an entry to remove.
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
    """Give the configuration's own settings precedence over those of a named space.

    A setting that the configuration gives is not searched. The space's settings apply unless the configuration gives
    them. An entry that no run would read with these settings is left out.

    Args:
        raw: raw configuration, changed in place.
        named: space of the catalogue that the configuration names.
        fixed_outside: returns every setting of a configuration by its dotted name, with its value outside the space.
    """
    space = raw.get("space")
    if not isinstance(space, dict):
        return
    for name in _from_catalogue(space, named):
        if _gives(raw, name):
            del space[name]
    for name, value in named.settings_for({family_of(model).kin for model in _models(raw, space)}).items():
        if name not in space and not _gives(raw, name):
            *section, key = name.split(".")
            values = raw.setdefault(section[0], {}) if section else raw
            values[key] = value
    if "head.pooling" in _from_catalogue(space, named):
        _take_poolings(raw, space)
    try:
        unread = active_space(parse_space(space), fixed_outside(raw)).never_read()
    except SpaceError:
        return  # The check of the space reports the problem.
    for name in _from_catalogue(space, named) & unread.keys():
        del space[name]


def _take_poolings(raw: Mapping[str, Any], space: dict[str, Any]) -> None:
    """Leave the task the poolings that it takes; fewer than two are no choice."""
    task = TASKS.get(_value(raw, "task", "name", "criteria"))
    if task is None:
        return  # The check of the task reports the problem.
    choices = [pooling for pooling in space["head.pooling"]["choices"] if task.takes_pooling(pooling)]
    if len(choices) > 1:
        space["head.pooling"] = {"choices": choices}
    else:
        del space["head.pooling"]


def _value(raw: Mapping[str, Any], section: str, key: str, default: str) -> str:
    values = raw.get(section)
    return str(values.get(key, default)) if isinstance(values, Mapping) else default


def _from_catalogue(space: Mapping[str, Any], named: NamedSpace) -> set[str]:
    return {name for name, entry in named.entries.items() if space.get(name) == entry}


def _gives(raw: Mapping[str, Any], name: str) -> bool:
    section, _, key = name.partition(".")
    values = raw.get(section)
    return isinstance(values, Mapping) and key in values if key else section in raw


def _models(raw: Mapping[str, Any], space: Mapping[str, Any]) -> list[str]:
    entry, fixed = space.get("model.name"), raw.get("model")
    if isinstance(entry, Mapping):
        choices = entry.get("choices", [])
        return [str(model) for model in choices] if isinstance(choices, list) else []
    return [str(fixed.get("name"))] if isinstance(fixed, Mapping) else []
