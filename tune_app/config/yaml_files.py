"""YAML files of configurations: read with limits on their size, written completely or not at all."""

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from trainables.files import whole_file
from trainables.given import NotAFileError, require_file
from tune_app.errors import UserError, first_line
from tune_app.printable import printable


def yaml_text(values: Mapping[str, Any], comment: str = "") -> str:
    """Return plain data as YAML, below a comment."""
    stream = io.StringIO()
    stream.write("".join(f"# {printable(line)}\n" for line in comment.splitlines()))
    yaml = YAML()
    yaml.width = 120
    yaml.default_flow_style = False
    yaml.dump(dict(values), stream)
    return stream.getvalue()


def dump_yaml(values: Mapping[str, Any], target: Path, comment: str = "") -> None:
    """Write plain data as YAML, completely or not at all."""
    with whole_file(target) as building:
        building.write_text(yaml_text(values, comment), encoding="utf-8")


_MOST_CHARACTERS = 100_000
_MOST_VALUES = 50_000
_MOST_LEVELS = 50


class _BoundedConstructor(SafeConstructor):
    """YAML constructor of plain data that refuses documents whose aliases expand to excessive data."""

    def construct_document(self, node: Node) -> Any:
        _count_values(node, {}, level=0)
        return super().construct_document(node)


def _count_values(node: Node, counts: dict[int, int], level: int) -> int:
    """Count the values under a node, itself included and with every alias expanded.

    Args:
        counts: counts of nodes so far, by the nodes' ``id``; this function fills it.
        level: nesting level of the node.

    Raises:
        MarkedYAMLError: there are too many values, they are nested too deeply, or a value contains itself.
    """
    if level > _MOST_LEVELS:
        raise MarkedYAMLError(problem=f"more than {_MOST_LEVELS} levels", problem_mark=node.start_mark)
    if isinstance(node, ScalarNode):
        return 1
    if id(node) not in counts:
        parts = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
        counts[id(node)] = 1 + sum(_count_values(part, counts, level + 1) for part in parts)
    if counts[id(node)] > _MOST_VALUES:
        raise MarkedYAMLError(problem=f"more than {_MOST_VALUES} values", problem_mark=node.start_mark)
    return counts[id(node)]


def parse_yaml(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _BoundedConstructor
    with warnings.catch_warnings():
        # YAML 1.2 allows an anchor to be defined again.
        warnings.simplefilter("ignore", ReusedAnchorWarning)
        return yaml.load(text)


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        require_file(path)
        with path.open(encoding="utf-8-sig") as file:
            # Limit the length, since the path may be that of a data file.
            text = file.read(_MOST_CHARACTERS + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a YAML configuration") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the path of a YAML configuration") from None
    except NotAFileError as error:
        raise UserError(f"{path}: {error}; give the path of a YAML configuration") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}); give a YAML configuration") from None
    if len(text) > _MOST_CHARACTERS:
        raise UserError(f"{path}: holds more than {_MOST_CHARACTERS} characters; give a YAML configuration")
    try:
        raw = parse_yaml(text)
    except DuplicateKeyError as error:
        named = re.search(r'found duplicate key "([^"]+)"', str(error))
        key = named.group(1) if named else "a key"
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}:{line}: {key} is given twice; keep one of them") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {first_line(error)}") from None
    if raw is None:
        raise UserError(f"{path}: is empty; a configuration needs at least study.name and data.path")
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds {type(raw).__name__}, not sections of settings such as study: and data:")
    return raw
