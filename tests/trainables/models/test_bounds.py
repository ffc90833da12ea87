"""Numbers that no encoder's configuration has."""

from typing import Any

import pytest

from trainables.models.architectures import ARCHITECTURE_NAMES, known_values
from trainables.models.bounds import out_of_bounds
from trainables.models.builtin import builtin_config
from trainables.models.names import BUILTIN_NAMES


@pytest.mark.parametrize("name", ARCHITECTURE_NAMES)
def test_published_encoders_are_within_bounds(name: str) -> None:
    values = known_values(name)
    assert values is not None
    assert out_of_bounds(values) is None


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_encoders_are_within_bounds(name: str) -> None:
    assert out_of_bounds(builtin_config(name, vocab_size=100, pad_token_id=0).to_dict()) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_hidden_layers", 1_000_000, "num_hidden_layers: 1000000: expected 1 to 256"),
        ("num_hidden_layers", 0, "num_hidden_layers: 0: expected 1 to 256"),
        ("num_hidden_layers", float("inf"), "num_hidden_layers: inf: expected 1 to 256"),
        ("n_layers", -3, "n_layers: -3: expected 1 to 256"),
        ("block_sizes", [4, 4, 10**6], "block_sizes: 1000000: expected at most 256"),
        ("hidden_size", 10**400, "hidden_size: 1000000000… (401 digits): expected 1 to 16777216"),
        ("vocab_size", 10**12, "vocab_size: 1000000000000: expected 1 to 16777216"),
        ("num_labels", 10**6, "num_labels: 1000000: expected at most 65536"),
        ("layer_norm_eps", float("nan"), "layer_norm_eps: nan: expected a finite number"),
        ("layer_norm_eps", -1.0, "layer_norm_eps: -1.0: expected a number from 0 to 1"),
        ("initializer_range", float("inf"), "initializer_range: inf: expected a finite number"),
        ("max_position_embeddings", 2**40, "max_position_embeddings: 1099511627776: expected 1 to 16777216"),
    ],
)
def test_sizes_beyond_all_bounds_are_named_with_the_bounds(name: str, value: Any, expected: str) -> None:
    assert out_of_bounds({"model_type": "bert", name: value}) == expected


@pytest.mark.parametrize("token", [100, -1])
def test_a_padding_token_outside_the_vocabulary_is_named(token: int) -> None:
    expected = f"pad_token_id: {token}: expected one of the vocabulary's tokens, 0 to 99"
    assert out_of_bounds({"vocab_size": 100, "pad_token_id": token}) == expected
    assert out_of_bounds({"vocab_size": 100, "pad_token_id": None}) is None


def test_other_values_are_not_looked_at() -> None:
    values = {"initializer_range": 1e30, "position_buckets": -1, "num_labels": True, "hidden_size": None, "id": 10**20}
    assert out_of_bounds(values) is None
