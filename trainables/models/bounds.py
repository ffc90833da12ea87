"""Bounds on the numbers of a model's ``config.json``, checked before anything of their size is built.

Cheap to import (no torch).
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.given import read_json

# The deepest published encoders have 48 layers, and each layer is traced.
_MOST_LAYERS = 256
# Transformers writes a name for each label.
_MOST_LABELS = 2**16
_MOST_OF_A_SIZE = 2**24
# Patterns for the names of all families: num_hidden_layers, n_layer, num_groups, d_model, max_position_embeddings,
# num_labels.
_LAYERS = re.compile(r"layers?$|^depth$|groups?$|blocks?$|block_sizes$")
_SIZES = re.compile(r"^(n|num|d)_|size|dim|positions|embeddings|buckets|window|labels|heads|range_max")
_AT_LEAST_ONE = frozenset(
    [
        *("num_hidden_layers", "n_layers", "num_layers", "n_layer"),
        *("hidden_size", "dim", "d_model", "intermediate_size", "hidden_dim", "num_attention_heads", "n_heads"),
        *("vocab_size", "max_position_embeddings"),
    ]
)


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a model's ``config.json`` and check that its numbers are within bounds.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds no JSON object, or a number is out of bounds.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"holds {type(config).__name__}, not an object")
    problem = out_of_bounds(config)
    if problem is not None:
        raise ValueError(problem)
    return config


def out_of_bounds(config: Mapping[str, Any]) -> str | None:
    """Return the first number of a configuration that no encoder has, with its bounds; None if all are in bounds."""
    for name, value in _numbers(config):
        low = 1 if name in _AT_LEAST_ONE else -_MOST_OF_A_SIZE
        high = _most(name)
        if not low <= value <= high:
            return f"{name}: {_shown(value)}: expected {f'{low} to' if low > 0 else 'at most'} {high}"
    for name, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name}: {value}: expected a finite number"
        if name.endswith("_eps") and isinstance(value, int | float) and not 0 <= value < 1:
            return f"{name}: {_shown(value)}: expected a number from 0 to 1"
    return _padding_outside(config)


def _padding_outside(config: Mapping[str, Any]) -> str | None:
    padding, words = config.get("pad_token_id"), config.get("vocab_size")
    if type(padding) is int and type(words) is int and not 0 <= padding < words:
        return f"pad_token_id: {_shown(padding)}: expected one of the vocabulary's tokens, 0 to {words - 1}"
    return None


def _most(name: str) -> int:
    if _LAYERS.search(name):
        return _MOST_LAYERS
    return _MOST_LABELS if name == "num_labels" else _MOST_OF_A_SIZE


def _shown(value: int | float) -> str:
    digits = str(value)
    return digits if len(digits) <= 20 else f"{digits[:10]}… ({len(digits)} digits)"


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    """Yield the layer counts and sizes of a configuration, including those in lists."""
    for name, value in config.items():
        if _LAYERS.search(name) or _SIZES.search(name):
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not isinstance(number, bool):
                    yield name, number
