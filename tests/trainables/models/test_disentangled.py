"""Our disentangled attention: the results and gradients of transformers' own, saved and loaded as plain DeBERTa."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModel, DebertaConfig, DebertaV2Config, PreTrainedConfig, PreTrainedModel

from trainables.models.disentangled import DisentangledAttention, use_disentangled_attention
from trainables.models.load import build_empty

TERMS = (["c2p", "p2c"], ["c2p"], ["p2c"], [])
WIDTH, HEADS = 24, 3


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def config(kind: type[PreTrainedConfig], **choices: Any) -> PreTrainedConfig:
    return kind(
        **{
            "vocab_size": 50,
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "intermediate_size": 16,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "relative_attention": True,
            "type_vocab_size": 0,
            "position_biased_input": False,
            **choices,
        }
    )


def pair_of(given_config: PreTrainedConfig, samples: int | None = None) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return transformers' encoder and an equal one with our attention, both in training mode."""
    torch.manual_seed(0)
    theirs: PreTrainedModel = AutoModel.from_config(given_config, dtype=torch.float64).train()
    ours = copy.deepcopy(theirs)
    use_disentangled_attention(ours)
    for module in ours.modules():
        if isinstance(module, DisentangledAttention):
            module.samples = samples
    return theirs, ours


def loss(encoder: PreTrainedModel, lengths: list[int]) -> Tensor:
    """Return a sum over the whole output, padding included, of a batch with texts of these lengths."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    output = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    return (output * weights).sum()


def assert_equal_gradients(theirs: PreTrainedModel, ours: PreTrainedModel) -> None:
    named = dict(ours.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in theirs.parameters() if p.grad is not None)
    for name, parameter in theirs.named_parameters():
        gradient = named[name].grad
        if parameter.grad is None:
            assert gradient is None or not gradient.any(), name
        else:
            # The scale of transformers' scores is rounded to fp32.
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-6 * largest, msg=name)


@given(
    kind=st.sampled_from([DebertaConfig, DebertaV2Config]),
    terms=st.sampled_from(TERMS),
    shares=st.booleans(),
    buckets=st.sampled_from([-1, 4, 8]),
    most=st.sampled_from([-1, 6]),
    lengths=st.lists(st.integers(1, 19), min_size=1, max_size=5),
    samples=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_results_and_gradients_are_those_of_transformers(
    kind: type[PreTrainedConfig],
    terms: list[str],
    shares: bool,
    buckets: int,
    most: int,
    lengths: list[int],
    samples: int,
) -> None:
    own = {"share_att_key": shares, "position_buckets": buckets} if kind is DebertaV2Config else {}
    # Buckets are only defined over at least as many positions.
    most = most if buckets < 0 or kind is DebertaConfig else -1
    theirs, ours = pair_of(config(kind, pos_att_type=terms, max_relative_positions=most, **own), samples)
    expected, actual = loss(theirs, lengths), loss(ours, lengths)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    expected.backward()
    actual.backward()
    assert_equal_gradients(theirs, ours)


@pytest.mark.parametrize(
    "choices",
    [{"conv_kernel_size": 3}, {"relative_attention": False, "position_biased_input": True, "pos_att_type": []}],
    ids=["convolution", "absolute positions"],
)
def test_variants_of_the_encoder_keep_their_results(choices: dict[str, Any]) -> None:
    theirs, ours = pair_of(config(DebertaV2Config, **{"pos_att_type": ["c2p", "p2c"], **choices}))
    loss(theirs, [7, 12, 3]).backward()
    loss(ours, [7, 12, 3]).backward()
    assert_equal_gradients(theirs, ours)


def test_the_backward_pass_draws_the_same_dropout_and_disturbs_no_later_numbers() -> None:
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3, "num_hidden_layers": 1}
    _, encoder = pair_of(config(DebertaV2Config, pos_att_type=["c2p", "p2c"], position_buckets=4, **rates), 2)

    def drawn() -> Tensor:
        torch.manual_seed(7)
        return loss(encoder, [9, 5, 9])

    value = drawn()
    after = torch.get_rng_state()
    value.backward()
    assert torch.equal(torch.get_rng_state(), after)
    for parameter in encoder.parameters():
        if parameter.grad is None:
            continue
        direction, step = torch.randn_like(parameter), 1e-6
        with torch.no_grad():
            parameter += step * direction
            above = drawn()
            parameter -= 2 * step * direction
            below = drawn()
            parameter += step * direction
        slope = (parameter.grad * direction).sum().item()
        assert (above - below).item() / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_dropout_keeps_its_share_of_probabilities_and_their_mean() -> None:
    rates = {"attention_probs_dropout_prob": 0.3, "num_hidden_layers": 1}
    _, encoder = pair_of(config(DebertaV2Config, pos_att_type=[], relative_attention=False, **rates))
    attention = encoder.encoder.layer[0].attention.self
    # Values of 1 give each token the sum of its kept probabilities, whose mean is 1 and whose zeros dropout made.
    torch.nn.init.zeros_(attention.value_proj.weight)
    torch.nn.init.ones_(attention.value_proj.bias)
    torch.manual_seed(0)
    context, _ = attention(torch.randn(200, 3, WIDTH), torch.ones(200, 3))
    assert context.mean().item() == pytest.approx(1, abs=0.05)
    assert (context == 0).double().mean().item() == pytest.approx(0.3**3, abs=0.015)


def test_the_weights_keep_their_names() -> None:
    theirs, ours = pair_of(config(DebertaV2Config, pos_att_type=["c2p", "p2c"], share_att_key=False))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_every_deberta_that_is_built_has_it_and_talking_heads_keep_their_own() -> None:
    layers = build_empty(config(DebertaV2Config, pos_att_type=["c2p"])).encoder.layer
    assert all(isinstance(layer.attention.self, DisentangledAttention) for layer in layers)
    layers = build_empty(config(DebertaConfig, pos_att_type=["c2p"], talking_head=True)).encoder.layer
    assert not any(isinstance(layer.attention.self, DisentangledAttention) for layer in layers)
