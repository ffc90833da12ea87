"""JSON schema of a configuration, from which editors complete and check YAML files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search_spaces.catalogue import CATALOGUE
from search_spaces.conditions import Condition
from search_spaces.rules import NAMED_LIMITS, LimitSet
from tune_app.config.conditions import conditions
from tune_app.config.limits import limit_names
from tune_app.config.models import model_of
from tune_app.config.parameters import searchable_names
from tune_app.config.run import RunConfig

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def config_schema() -> Schema:
    """Return the JSON schema of a configuration, with every setting that entries of registries added."""
    schema = model_of(RunConfig).model_json_schema()
    limits = LimitSet.model_json_schema()
    definitions: Schema = {**schema.pop("$defs"), **limits.pop("$defs"), "LimitSet": limits}
    properties: Schema = schema["properties"]
    definitions["Limit"] = {
        "anyOf": [{"enum": list(limit_names())}, {"$ref": "#/$defs/LimitSet"}],
    }
    limits["properties"]["from"] |= {"anyOf": [{"enum": list(NAMED_LIMITS)}, {"type": "null"}]}
    for size in ("large", "base", "small"):
        limits["properties"][size] = {"$ref": "#/$defs/SizeLimits", "description": f"Limits of {size} models."}
    one = {"$ref": "#/$defs/Limit"}
    properties["limits"] |= {"anyOf": [one, {"type": "array", "items": one}, {"type": "null"}], "default": "predicted"}
    properties["space"] |= {"anyOf": [_space(properties, definitions), {"enum": list(CATALOGUE)}, {"type": "null"}]}
    definitions["SearchSection"]["properties"]["metric"]["default"] = None
    _accept_old_names(definitions)
    described = {"$schema": DRAFT, "title": "Configuration of headroom", **_without_titles(schema)}
    return {**described, "$defs": {name: _without_titles(inner) for name, inner in definitions.items()}}


def _accept_old_names(definitions: Schema) -> None:
    scheduler = definitions["SchedulerSection"]["properties"]
    scheduler["warmup_epochs"] = {
        **{key: value for key, value in scheduler["warmup"].items() if key != "default"},
        "description": "Old name of warmup.",
        "deprecated": True,
    }


def resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Return a schema with the definition that it refers to, if any, in its place."""
    reference = schema.get("$ref")
    if reference is None:
        return dict(schema)
    return {**definitions[str(reference).rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}


def _space(properties: Schema, definitions: Schema) -> Schema:
    """Return the schema of the space's entries, each with the values that its setting may have."""
    entries: Schema = {}
    read_under = conditions()
    for name in searchable_names():
        section, key = name.split(".")
        setting = resolved(properties[section], definitions)["properties"][key]
        description = _entry_text(str(setting.get("description", "")), read_under.get(name, ()))
        entries[name] = _entry(setting) | {"description": description}
    catalogue = {"enum": list(CATALOGUE), "description": "Space of the catalogue to start from."}
    return {"type": "object", "properties": {"from": catalogue, **entries}, "additionalProperties": False}


def _entry_text(about: str, read_under: Sequence[Condition]) -> str:
    return f"{about} Read only with {' and '.join(map(str, read_under))}." if read_under else about


def _entry(setting: Schema) -> Schema:
    """Return the schema of a space's entry: choices, a range if the setting is a number, or null."""
    values = [value for value in _alternatives(setting) if value.get("type") != "null"]
    item = values[0] if len(values) == 1 else {"anyOf": values}
    choices = {
        "type": "object",
        "properties": {
            "choices": {
                "type": "array",
                "items": item,
                "minItems": 1,
                "uniqueItems": True,
                "description": "Values to choose from, all of one type.",
            }
        },
        "required": ["choices"],
        "additionalProperties": False,
    }
    ranges = [_range(value) for value in values if value.get("type") in ("integer", "number")]
    return {"anyOf": [choices, *ranges, {"type": "null"}]}


def _range(number: Schema) -> Schema:
    is_whole = number["type"] == "integer"
    of_whole = {"step": {"type": "integer", "minimum": 1, "description": "Distance between two whole numbers."}}
    properties = {
        "low": {**number, "description": "Smallest value."},
        "high": {**number, "description": "Largest value."},
        "log": {"type": "boolean", "description": "Draw evenly in the logarithm."},
        "type": {"const": "int" if is_whole else "float", "description": "Whole numbers, or any numbers."},
        **(of_whole if is_whole else {}),
    }
    return {"type": "object", "properties": properties, "required": ["low", "high"], "additionalProperties": False}


def _alternatives(setting: Mapping[str, Any]) -> Iterable[Schema]:
    """Yield a schema for each of the types that a setting may have, without description and default."""
    for value in setting.get("anyOf", [setting]):
        yield {key: value[key] for key in ("type", "enum", "const", *_BOUNDS) if key in value}


def _without_titles(schema: Schema) -> Schema:
    """Return the schema of a section without the titles that pydantic derives from the names of fields."""
    plain = {key: value for key, value in schema.items() if key != "title"}
    if "properties" in plain:
        plain["properties"] = {name: _without_titles(inner) for name, inner in plain["properties"].items()}
    return plain
