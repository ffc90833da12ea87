"""Validation errors as one line that names the setting, its value and the remedy."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from search_spaces.quoting import quoted, short
from trainables.settings import SettingError
from tune_app.config.common_names import meant
from tune_app.errors import nearest


def one_line(error: ValidationError, where: str, *, root: type[BaseModel], prefix: Sequence[str] = ()) -> str:
    """Return a validation error as one line.

    Args:
        where: source of the configuration, for the message.
        root: model that was validated.
        prefix: path of that model in the configuration; empty for a whole configuration.
    """
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    setting = ".".join([*prefix, *map(short, path)])
    if first["type"] == "extra_forbidden":
        known = _keys_at(path[:-1], root)
        is_local = bool(prefix) or any(part.isdecimal() for part in path)
        hint = nearest(path[-1], known) if is_local else _hint(".".join(path), first["input"], root)
        return f"{setting}: unknown setting" + (hint or f" (known here: {', '.join(known)})")
    if first["type"] == "missing":
        return f"{setting}: is missing from {where}; add it, or give it with -s {setting}=…"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SettingError):
        return f"{setting}.{cause.name}: {quoted(cause.value)}: {cause}"
    return f"{setting}: {problem_line(first, first['input'])}"


def _hint(name: str, value: object, root: type[BaseModel]) -> str:
    """Return a question that suggests a known setting for an unknown one; empty if none is close."""
    sections = list(root.model_fields)
    likely = meant(name, sections) if isinstance(value, Mapping) and "." not in name else None
    likely = likely or meant(name, setting_names_of(root))
    return f"; did you mean {likely}?" if likely else ""


def setting_names_of(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all settings of a model."""
    names: list[str] = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += setting_names_of(inner, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def problem_line(details: Any, value: object) -> str:
    """Return one of pydantic's errors, with the value that is wrong."""
    message = str(details["msg"]).removeprefix("Value error, ")
    kinds = {
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number",
        "finite_number": "expected a finite number",
        "string_type": "expected text",
        "bool_type": "expected true or false",
        "model_type": "expected settings (key: value)",
    }
    message = kinds.get(details["type"], message[:1].lower() + message[1:])
    if details["type"] == "greater_than_equal":
        # Pydantic writes 1e-20 with all its digits.
        message = f"input should be greater than or equal to {details['ctx']['ge']:g}"
    if value is None and details["type"] in kinds:
        message += "; leave the setting out for its default"
    if details["type"] == "literal_error":
        options = re.findall(r"'([^']*)'", str(details["ctx"]["expected"]))
        message = f"expected one of {', '.join(options)}"
        if isinstance(value, str):
            message += nearest(value, options)
    return f"{quoted(value)}: {message}"


def _keys_at(path: Iterable[str], root: type[BaseModel]) -> list[str]:
    model: Any = root
    for part in path:
        if part.isdecimal():
            # The part is a list index, and the annotation of the list already gives its items' model.
            continue
        field = model.model_fields.get(part)
        model = field.annotation if field else None
        if model is not None and not isinstance(model, type):
            model = next((arg for arg in getattr(model, "__args__", ()) if isinstance(arg, type)), None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return [field.alias or name for name, field in model.model_fields.items()]
