"""Pooling and heads: the result of each setting, the random draws, and independence from padding."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import ElectraConfig, ElectraModel, PreTrainedModel

from trainables.models.heads import ACTIVATIONS, Head, Pooler
from trainables.poolings import POOLINGS
from trainables.settings import HeadSettings

ONE_PADDED = torch.tensor([[1, 1, 0]])


def outputs(*tokens: list[float]) -> Any:
    return SimpleNamespace(last_hidden_state=torch.tensor([tokens]))


def small_encoder(hidden: int = 2) -> PreTrainedModel:
    config = ElectraConfig(
        vocab_size=20, hidden_size=hidden, embedding_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return ElectraModel(config)


@pytest.mark.parametrize(("pooling", "expected"), [("cls", [1.0, -4.0]), ("mean", [2.0, -3.0]), ("max", [3.0, -2.0])])
def test_padding_changes_nothing(pooling: str, expected: list[float]) -> None:
    pooled = Pooler(small_encoder(), HeadSettings(pooling))(outputs([1.0, -4.0], [3.0, -2.0], [99.0, 99.0]), ONE_PADDED)
    assert pooled.tolist() == [expected]


def test_attention_begins_as_the_mean_and_learns_which_token_counts() -> None:
    pooler = Pooler(small_encoder(), HeadSettings("attention"))
    seen = outputs([1.0, -4.0], [3.0, -2.0], [99.0, 99.0])
    assert pooler(seen, ONE_PADDED).tolist() == [[2.0, -3.0]]
    pooler(seen, ONE_PADDED)[0, 0].backward()
    with torch.no_grad():
        pooler.query += 100 * pooler.query.grad
    torch.testing.assert_close(pooler(seen, ONE_PADDED), torch.tensor([[3.0, -2.0]]))


def test_only_the_pooling_that_reads_the_encoders_own_pooler_trains_it(bert: PreTrainedModel) -> None:
    Pooler(bert, HeadSettings("pooler"))
    assert bert.pooler.dense.weight.requires_grad
    Pooler(bert, HeadSettings("attention"))
    assert not bert.pooler.dense.weight.requires_grad


def test_a_pooler_that_is_not_there_is_refused_by_family() -> None:
    with pytest.raises(ValueError, match="this electra encoder has no trained pooler; use cls, mean, max or attention"):
        Pooler(small_encoder(), HeadSettings("pooler"))


def test_an_unknown_pooling_is_refused(bert: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match=rf"'last' is unknown; use one of {', '.join(POOLINGS)}"):
        Pooler(bert, HeadSettings("last"))


@pytest.mark.parametrize("layers", range(5))
def test_a_head_has_as_many_hidden_layers_as_asked_for(layers: int) -> None:
    head = Head(6, 3, HeadSettings(layers=layers, width=5), seed=0)
    shapes = [tuple(p.shape) for p in head.parameters() if p.ndim > 1]
    assert shapes == [(5, 6), *[(5, 5)] * (layers - 1), (3, 5)][: layers + 1] if layers else shapes == [(3, 6)]
    assert head.outputs == 3


def test_a_head_takes_pooled_texts_and_tokens_alike() -> None:
    head = Head(6, 2, HeadSettings(layers=1, width=5, dropout=0.0), seed=0)
    tokens = torch.randn(4, 7, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(tokens)[:, 3], head(tokens[:, 3]))


def test_each_setting_of_a_head_changes_what_it_computes() -> None:
    features = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))

    def computed(settings: HeadSettings) -> torch.Tensor:
        torch.manual_seed(0)
        return Head(6, 2, settings, seed=0)(features)

    base = HeadSettings(layers=1, width=5, dropout=0.0)
    others = [HeadSettings(layers=1, width=5, activation=name, dropout=0.0) for name in ACTIVATIONS if name != "gelu"]
    others += [
        HeadSettings(layers=0, dropout=0.0),
        HeadSettings(layers=2, width=5, dropout=0.0),
        HeadSettings(layers=1, width=7, dropout=0.0),
        HeadSettings(layers=1, width=5, dropout=0.4),
    ]
    results = [computed(settings) for settings in (base, *others)]
    torch.testing.assert_close(computed(base), results[0])
    assert not any(torch.equal(one, other) for i, one in enumerate(results) for other in results[:i])


def test_dropout_comes_before_every_layer() -> None:
    head = Head(6, 2, HeadSettings(layers=2, width=5, dropout=1.0), seed=0)
    with torch.no_grad():
        for layer in (*head.hidden, head.output):
            layer.bias.fill_(1.0)
    assert head(torch.ones(3, 6)).tolist() == [[1.0, 1.0]] * 3


def test_the_weights_follow_their_seed_alone() -> None:
    settings = HeadSettings(layers=1, width=64)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = Head(64, 2, settings, seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = Head(64, 2, settings, seed=1).state_dict(), Head(64, 2, settings, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


@pytest.mark.parametrize("width", [256, 2048])
def test_a_deep_head_neither_fades_nor_grows_what_passes_through(width: int) -> None:
    head = Head(768, 2, HeadSettings(layers=4, width=width, activation="relu", dropout=0.0), seed=1)
    features = torch.randn(64, 768, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in head.hidden:
            features = head.activation(layer(features))
    assert 0.25 < features.square().mean() < 4
