"""Parameter counts and architectures of models, read from what lies on the disk, without loading a weight."""

import struct
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path

from trainables.given import parse_json
from trainables.models.architectures import known_values
from trainables.models.bounds import read_config_file
from trainables.models.families import Architecture
from trainables.models.names import UnknownModelError, resolve_model

# The format's own bound.
_MOST_HEADER_BYTES = 100_000_000
# Built-in encoders are made when a trial starts; their size is far below any limit's smallest class.
_BUILTIN_AT_MOST = 20_000_000
_BUILTIN_LAYERS = {"tiny": 2, "small": 4}
_BUILTIN_HIDDEN = {"tiny": 128, "small": 256}
_BUILTIN = {
    "bert": Architecture("bert", positions=512, pretrained=False),
    "roberta": Architecture("roberta", positions=514, padding=1, pretrained=False),
    "deberta": Architecture("deberta-v2", pretrained=False),
}


@cache
def parameter_count(model: str) -> int | None:
    """How many parameters a model has, or None where that cannot be read here (a hub name, ``.bin`` weights)."""
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
        return None  # Loading it will say so.


def model_type(model: str) -> str | None:
    """A model's family as transformers names it, or None where that cannot be read here (a hub name)."""
    found = architecture(model, fetch=False)
    return found.model_type if found else None


def architecture(model: str, revision: str | None = None, *, fetch: bool = True) -> Architecture | None:
    """What a model's configuration says of it, or None where it cannot be had; ``fetch`` asks the hub for it too."""
    return _architecture_here(model) or (_architecture_on_hub(model, revision) if fetch else None)


@cache
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
        return None  # Loading it will say so.
    return None if path is None else _read(path)


def _read(path: Path) -> Architecture | None:
    try:
        return Architecture.of(read_config_file(path))
    except (OSError, ValueError):
        return None  # Loading it will say so.


def _tensor_elements(file: Path) -> int:
    """Elements of all tensors in a safetensors file, from its header: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = parse_json(stream.read(min(length, _MOST_HEADER_BYTES)))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
