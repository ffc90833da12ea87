"""Parameter counts and architectures of models, read from what lies on the disk, without loading a weight."""

import json
import struct
from functools import cache
from math import prod
from pathlib import Path

from trainables.models.names import UnknownModelError, resolve_model

# Built-in encoders are made when a trial starts; their size is far below any limit's smallest class.
_BUILTIN_AT_MOST = 20_000_000
_BUILTIN_TYPES = {"bert": "bert", "roberta": "roberta", "deberta": "deberta-v2"}


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
    return sum(_tensor_elements(file) for file in files) if files else None


@cache
def model_type(model: str) -> str | None:
    """A model's architecture as transformers names it, or None where that cannot be read here (a hub name)."""
    try:
        source = resolve_model(model)
        if source.kind == "builtin":
            return _BUILTIN_TYPES[model.rpartition("-")[2]]
        if source.path is None:
            return None
        found = json.loads(Path(source.path, "config.json").read_text(encoding="utf-8")).get("model_type")
    except (UnknownModelError, OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _tensor_elements(file: Path) -> int:
    """Elements of all tensors in a safetensors file, from its header: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
