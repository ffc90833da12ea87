"""Text of a drafted configuration: YAML in which each setting has its reason above it."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from tune_app.printable import printable

_WIDTH = 118
_KEY = "k"


@dataclass(frozen=True)
class Drafted:
    """Setting of a draft: its dotted name, its value, and the reason for it (empty for none)."""

    name: str
    value: Any
    why: str = ""


def raw_config(settings: Sequence[Drafted]) -> dict[str, Any]:
    """Return the settings as the plain data of a configuration."""
    raw: dict[str, Any] = {}
    for setting in settings:
        *path, key = _path(setting.name)
        section = raw
        for part in path:
            section = section.setdefault(part, {})
        section[key] = setting.value
    return raw


def yaml_text(head: Sequence[str], settings: Sequence[Drafted]) -> str:
    """Return a configuration as YAML, with the lines of the head and the reasons as comments.

    Settings of one section must follow each other.
    """
    lines = [f"# {printable(line)}".rstrip() for line in head]
    before: list[str] = []
    for setting in settings:
        *path, key = _path(setting.name)
        shared = _shared(before, path)
        if shared == 0:
            lines.append("")
        lines += [f"{'  ' * level}{path[level]}:" for level in range(shared, len(path))]
        indent = "  " * len(path)
        lines += _comment(setting.why, indent)
        lines.append(f"{indent}{_flow(key)}: {_flow(setting.value)}")
        before = path
    return "\n".join(lines) + "\n"


def _path(name: str) -> list[str]:
    """Return the keys that lead to a setting; the names of a space's entries hold dots."""
    section, _, rest = name.partition(".")
    return [section, rest] if section == "space" else name.split(".")


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    return next(
        (level for level, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )


def _comment(text: str, indent: str) -> list[str]:
    # A file's texts stand in comments, and none of them may end one.
    words = " ".join(printable(text).split())
    return [f"{indent}# {line}" for line in textwrap.wrap(words, _WIDTH - len(indent), break_on_hyphens=False)]


def _flow(value: object) -> str:
    """Return a value as YAML on one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width, yaml.allow_unicode = True, 2**31, True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    # In a list, a mapping of one key would lose its braces.
    yaml.dump({_KEY: value}, stream)
    return stream.getvalue().strip().removeprefix(f"{{{_KEY}: ").removesuffix("}")
