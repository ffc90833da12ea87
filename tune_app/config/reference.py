"""Reference page of every setting, as Markdown, from the JSON schema of a configuration."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tune_app.config.schema import config_schema, resolved

_HEAD = """# Settings

Every setting of a configuration, by section. A configuration is one YAML file with these sections; `-s KEY=VALUE`
overrides a setting by its dotted name. `study.name` and `data.path` are required. Editors that know
`configs/schema.json` complete and check the file; each shipped configuration names it in its first line.

This page is printed by `headroom config reference`, the schema by `headroom config schema`.
"""
_LIMITS = """\
A value of `limits`, or one of a list of them. A sample beyond a limit is rejected. Models are large, base or small by
their number of parameters."""
_SPACE = """\
NAME is the dotted name of a setting. An entry holds either `choices`, or `low` and `high` for a number. `null` in the
place of an entry removes it from the space that `from` names."""
_EXAMPLE = "train.batch_size"
_ENTRY_KINDS = {
    "choices": "list",
    "low": "number",
    "high": "number",
    "step": "whole number",
    "log": "true or false",
    "type": "`int` or `float`",
}
_ENTRY_DEFAULTS = {"step": "`1`", "log": "`false`", "type": "by the numbers"}
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
    "array": "list",
}
_BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}


@dataclass(frozen=True)
class Row:
    """Setting as the reference shows it; ``default`` is None for a required setting."""

    name: str
    kind: str
    default: str | None
    bounds: str
    about: str

    def __str__(self) -> str:
        cells = (f"`{self.name}`", self.kind, self.default or "required", self.bounds, self.about)
        escaped = [cell.replace("|", "\\|") for cell in cells]
        return f"| {' | '.join(escaped)} |"


def reference() -> str:
    """Return the reference page, with every setting that entries of registries added."""
    schema = config_schema()
    definitions = schema["$defs"]
    parts, alone = [_HEAD], []
    for name, section in schema["properties"].items():
        if "$ref" in section:
            rows = list(_rows(name, resolved(section, definitions), definitions))
            parts.append(_table(f"## {name}\n\n{section.get('description', '')}\n", rows))
        elif name != "pinned":
            alone.append(_row(name, _flat(section, definitions), is_required=False))
    limits = list(_rows("limits", definitions["LimitSet"], definitions))
    entries = schema["properties"]["space"]["anyOf"][0]["properties"]
    parts += [
        _table("## Settings without a section\n", alone),
        _table(f"## Limits of your own\n\n{_LIMITS}\n", limits),
        _table(f"## Entries of a space\n\n{_SPACE}\n", list(_entry_rows(entries[_EXAMPLE]))),
    ]
    return "\n".join(parts)


def _entry_rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the keys of a space's entry: those of choices, then those of a range."""
    choices, numbers, _ = entry["anyOf"]
    for part in (choices, numbers):
        for key, value in part["properties"].items():
            about, needed = str(value["description"]), key in part["required"]
            yield Row(f"space.NAME.{key}", _ENTRY_KINDS[key], None if needed else _ENTRY_DEFAULTS[key], "", about)


def _rows(prefix: str, section: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Row]:
    for key, setting in section["properties"].items():
        name = f"{prefix}.{key}"
        if setting.get("deprecated"):
            continue
        if "$ref" in setting:
            yield from _rows(name, resolved(setting, definitions), definitions)
        else:
            yield _row(name, setting, is_required=key in section.get("required", ()))


def _row(name: str, setting: Mapping[str, Any], *, is_required: bool) -> Row:
    default = None if is_required else _default(setting.get("default"))
    *kinds, last = dict.fromkeys(_kind(value) for value in setting.get("anyOf", [setting]))
    kind = f"{', '.join(kinds)} or {last}" if kinds else last
    return Row(name, kind, default, _bounds(setting), str(setting.get("description", "")))


def _flat(setting: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a setting's schema with the alternatives of the definitions that it refers to among its own."""
    inner = [resolved(value, definitions) for value in setting["anyOf"]]
    return {**setting, "anyOf": [part for value in inner for part in value.get("anyOf", [value])]}


def _kind(value: Mapping[str, Any]) -> str:
    words = value.get("enum", [value["const"]] if "const" in value else [])
    if words:
        return ", ".join(_default(word) for word in words)
    if "$ref" in value:
        return "mapping"
    return _TYPES[value["type"]]


def _default(value: object) -> str:
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _bounds(setting: Mapping[str, Any]) -> str:
    for value in setting.get("anyOf", [setting]):
        given = [f"{word} {_number(value[key])}" for key, word in _BOUNDS.items() if key in value]
        if given:
            return ", ".join(given)
    return ""


def _number(value: float) -> str:
    is_whole = isinstance(value, int) or (value.is_integer() and value >= 1)
    return f"{int(value):,}" if is_whole else f"{value:g}"


def _table(head: str, rows: list[Row]) -> str:
    lines = [
        head,
        "| setting | type | default | bounds | meaning |",
        "| --- | --- | --- | --- | --- |",
        *map(str, rows),
    ]
    return "\n".join(lines) + "\n"
