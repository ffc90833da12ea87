"""Parameter counts and architectures of models, read from files without loading a weight."""

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from math import prod
from pathlib import Path
from typing import TypeVar

from trainables.given import parse_json
from trainables.models.architectures import known_values
from trainables.models.bounds import read_config_file
from trainables.models.families import FAMILIES, Architecture, Family, named_family
from trainables.models.names import UnknownModelError, resolve_model

# The limit that the format sets itself.
_MOST_HEADER_BYTES = 100_000_000
# Built-in encoders are built when a trial starts. Their size is far below the smallest class of any limit.
_BUILTIN_AT_MOST = 20_000_000
_BUILTIN_LAYERS = {"tiny": 2, "small": 4}
_BUILTIN_HIDDEN = {"tiny": 128, "small": 256}
_BUILTIN = {
    "bert": Architecture("bert", positions=512, pretrained=False),
    "roberta": Architecture("roberta", positions=514, padding=1, pretrained=False),
    "deberta": Architecture("deberta-v2", pretrained=False),
}


T = TypeVar("T")


def _remembered(read: Callable[[str], T | None]) -> Callable[[str], T | None]:
    """Remember what was found. What was not is looked for again: it may be installed or downloaded meanwhile."""
    found: dict[str, T] = {}

    @wraps(read)
    def look(model: str) -> T | None:
        value = found.get(model)
        if value is None and (value := read(model)) is not None:
            found[model] = value
        return value

    return look


@_remembered
def parameter_count(model: str) -> int | None:
    """Return a model's number of parameters; None if it cannot be read here (a hub name, ``.bin`` weights)."""
    try:
        source = resolve_model(model)
    except UnknownModelError:
        return None
    if source.kind == "builtin":
        return _BUILTIN_AT_MOST
    if source.path is None:
        return None
    files = sorted(Path(source.path).glob("*.safetensors"))
    try:
        return sum(_tensor_elements(file) for file in files) if files else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error):
        return None  # Loading the model reports the error.


def family_of(model: str) -> Family:
    """Return the facts about a model's family, or those of BERT's kind if the family is unknown.

    The model's configuration decides if it can be read here, else its name.
    """
    known = architecture(model, fetch=False)
    return FAMILIES.get((known.model_type if known else named_family(model)) or "", Family())


def architecture(model: str, revision: str | None = None, *, fetch: bool = True) -> Architecture | None:
    """Return the architecture that a model's configuration describes, or None; ``fetch`` also asks the hub."""
    return _architecture_here(model) or (_architecture_on_hub(model, revision) if fetch else None)


@_remembered
def _architecture_here(model: str) -> Architecture | None:
    known = known_values(model)
    if known is not None:
        return Architecture.of(known)
    try:
        source = resolve_model(model)
    except UnknownModelError:
        return None
    if source.kind == "builtin":
        size, _, family = model.partition("-")
        return replace(_BUILTIN[family], layers=_BUILTIN_LAYERS[size], hidden=_BUILTIN_HIDDEN[size])
    return None if source.path is None else _read(Path(source.path, "config.json"))


@cache
def _architecture_on_hub(model: str, revision: str | None) -> Architecture | None:
    from trainables.models.checkpoint import ModelLoadError, fetch

    try:
        source = resolve_model(model)
        path = None if source.path is not None else fetch(source, "config.json", revision)
    except (UnknownModelError, ModelLoadError):
        return None  # Loading the model reports the error.
    return None if path is None else _read(path)


def _read(path: Path) -> Architecture | None:
    try:
        return Architecture.of(read_config_file(path))
    except (OSError, ValueError):
        return None  # Loading the model reports the error.


def _tensor_elements(file: Path) -> int:
    """Return the number of elements in a safetensors file, from its header: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = parse_json(stream.read(min(length, _MOST_HEADER_BYTES)))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
