"""Overrides of a configuration, applied to plain data before it is checked."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml.error import YAMLError

from search_spaces.quoting import quoted, short
from search_spaces.rules import NAMED_LIMITS
from tune_app.config.old_names import OLD_WARMUP, WARMUP
from tune_app.config.parameters import check_parameter
from tune_app.config.yaml_files import parse_yaml
from tune_app.errors import UserError, nearest

Overrides = Mapping[str, Any] | Sequence[str]
"""Values by the dotted names of settings, or texts of the form ``KEY=VALUE`` whose values are YAML."""


def named_values(overrides: Overrides) -> list[tuple[str, Any]]:
    """Return the dotted names and values of overrides.

    Raises:
        UserError: a text is not ``KEY=VALUE``, or its value is not YAML.
    """
    if isinstance(overrides, Mapping):
        return [(key.strip(), copy.deepcopy(value)) for key, value in overrides.items()]
    return [_parsed(override) for override in overrides]


def _parsed(override: str) -> tuple[str, Any]:
    key, sign, text = override.partition("=")
    key = key.strip()
    if not sign or not key:
        raise UserError(f"-s {short(override)}: expected KEY=VALUE, e.g. -s train.epochs=5")
    try:
        return key, parse_yaml(text) if text.strip() else None
    except (YAMLError, ValueError, RecursionError):
        raise UserError(f"-s {key}: {quoted(text)} is not valid YAML; quote it, e.g. -s {key}='[8, 16]'") from None


def apply_override(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set one setting, or one entry of the space or a field of it, in plain data.

    Raises:
        UserError: the name leads to something that holds no settings.
    """
    key = WARMUP if key == OLD_WARMUP else key
    if key == "space" or not key.startswith("space."):
        _set(raw, key.split("."), value, key)
        return
    if raw.get("space") is None:
        raw["space"] = {}
    space = raw["space"]
    if not isinstance(space, dict):
        raise UserError(f"-s {key}: space is not a mapping in the configuration; give space entries there first")
    name, field = _split_space_key(key.removeprefix("space."), space)
    if field is not None:
        entry = space.setdefault(name, {})
        if not isinstance(entry, dict):
            raise UserError(f"-s {key}: space.{name} is {quoted(entry)}, not a mapping; give {{choices: […]}} first")
        entry[field] = value
    elif value is None:
        check_parameter(name)
        space.pop(name, None)
    else:
        space[name] = value


_ENTRY_FIELDS = ("choices", "low", "high", "step", "log", "type")


def _split_space_key(key: str, space: Mapping[str, Any]) -> tuple[str, str | None]:
    """Split ``train.batch_size.choices`` into ``train.batch_size`` and ``choices``; names themselves contain dots."""
    name, _, field = key.rpartition(".")
    if key in space or not name:
        return key, None
    if field in _ENTRY_FIELDS:
        return name, field
    if name in space:
        raise UserError(
            f"-s space.{key}: an entry of the space has no {field}{nearest(field, _ENTRY_FIELDS)}"
            f" (known: {', '.join(_ENTRY_FIELDS)})"
        )
    return key, None


def _set(raw: dict[str, Any], path: list[str], value: object, key: str) -> None:
    if path[0] == "limits" and len(path) > 1:
        raw, path = _own_limits(raw), path[1:]
    for depth, part in enumerate(path[:-1]):
        child = raw.get(part)
        if child is None:
            child = raw[part] = {}
        if not isinstance(child, dict):
            raise UserError(f"-s {key}: {'.'.join(path[: depth + 1])} is {quoted(child)}, which has no settings in it")
        raw = child
    raw[path[-1]] = value


def _own_limits(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the user's own limits among ``limits``, ready to be changed; add empty ones if there are none."""
    given = raw.get("limits", "predicted")
    limits = [] if given is None else list(given) if isinstance(given, list) else [given]
    for position, limit in enumerate(limits):
        if isinstance(limit, str) and limit in NAMED_LIMITS:
            limits[position] = {"from": limit}
    custom = next((limit for limit in limits if isinstance(limit, dict)), None)
    if custom is None:
        custom = {}
        limits.append(custom)
    raw["limits"] = limits
    return custom
