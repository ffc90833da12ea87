"""Parts on top of an encoder: pooling over its tokens, and heads with hidden layers, for any task.

A model for any task consists of these. ``Pooler`` makes one vector from a text's tokens. ``Head`` turns vectors, pooled
or one per token, into the task's outputs.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trainables.poolings import POOLINGS, Pooling, pools
from trainables.settings import HeadSettings

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class Pooler(nn.Module):
    """A module that pools an encoder's outputs into one vector per text; see ``trainables.poolings``.

    Args:
        encoder: the encoder whose outputs are pooled; no reference to it is stored. If another pooling is chosen, its
            own pooler is excluded from training, since no gradient would reach it.

    Raises:
        ValueError: ``head.pooling`` is unknown, or reads a pooler that the encoder lacks.
    """

    def __init__(self, encoder: PreTrainedModel, head: HeadSettings) -> None:
        super().__init__()
        self._settings = head
        self._entry = _checked_pooling(head.pooling, encoder)
        if not self._entry.needs_pooler:
            set_pooler_aside(encoder)
        for name, value in self._entry.parameters(encoder.config.hidden_size, head).items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, outputs: Any, attention_mask: Tensor) -> Tensor:
        """Return pooled vectors ``(batch, hidden)``.

        Args:
            outputs: the encoder's outputs, with ``last_hidden_state`` ``(batch, length, hidden)``.
            attention_mask: ``(batch, length)``, 0 for padding.
        """
        assert self._entry.pool is not None
        return self._entry.pool(outputs, attention_mask, dict(self.named_parameters()), self._settings)


def set_pooler_aside(encoder: PreTrainedModel) -> None:
    """Exclude the encoder's own pooler, if any, from training; for models that do not read its output.

    It stays for later users of the encoder. No gradient reaches it, so it needs no optimizer states.
    """
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler.requires_grad_(False)


def _checked_pooling(name: str, encoder: PreTrainedModel) -> Pooling:
    if name not in POOLINGS:
        raise ValueError(f"head.pooling {name!r} is unknown; use one of {', '.join(POOLINGS)}")
    pooling = POOLINGS[name]
    if pooling.pool is None:
        raise ValueError(f"head.pooling {name!r} replaces pooling and head of a model with one answer; use {pools()}")
    if pooling.needs_pooler and getattr(encoder, "pooler", None) is None:
        raise ValueError(
            f"head.pooling {name!r}: this {encoder.config.model_type} encoder has no trained pooler; "
            f"use {pools(without_pooler=True)}"
        )
    return pooling


class Head(nn.Module):
    """``settings.layers`` hidden layers with an activation, then a linear layer; dropout before each of them.

    The input's last dimension is ``inputs`` and the output's is ``outputs``; other dimensions pass through: ``(batch,
    inputs)`` for a pooled text, ``(batch, length, inputs)`` for its tokens.

    Args:
        settings: a head reads all of them but the pooling.
        seed: seed of the weights; the global random state is neither read nor changed. Two heads of the same shape and
            seed start alike, so the heads of one model need different seeds.
        std: standard deviation of the last layer's weights: the ``initializer_range`` of the encoder's configuration.
            Hidden layers get larger weights, so that signals neither fade nor grow (He et al., "Delving Deep into
            Rectifiers", 2015, equation 10).
    """

    def __init__(self, inputs: int, outputs: int, settings: HeadSettings, *, seed: int, std: float = 0.02) -> None:
        super().__init__()
        widths = [inputs, *[settings.width] * settings.layers]
        with torch.random.fork_rng(devices=[]):  # nn.Linear draws from the global generator, to no purpose here.
            self.hidden = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
            self.output = nn.Linear(widths[-1], outputs)
        self.activation = ACTIVATIONS[settings.activation]()
        self.dropout = nn.Dropout(settings.dropout)
        generator = torch.Generator().manual_seed(seed)
        for layer, width in zip(self.hidden, widths[:-1], strict=True):
            _draw(layer, math.sqrt(2 / width), generator)
        _draw(self.output, std, generator)

    @property
    def outputs(self) -> int:
        return self.output.out_features

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.hidden:
            features = self.activation(layer(self.dropout(features)))
        output: Tensor = self.output(self.dropout(features))
        return output


@runtime_checkable
class Answering(Protocol):
    """A model that names the layers that give its logits, by question."""

    @property
    def output_layers(self) -> Mapping[str, nn.Linear]: ...


@torch.no_grad()
def rescale_outputs(layer: nn.Linear, temperature: float, shift: float = 0.0) -> None:
    """Subtract a shift from the second output of a linear layer, and divide all by a temperature, in its parameters."""
    if shift:
        layer.bias[1] -= shift
    for parameter in layer.parameters():
        parameter.div_(temperature)


def _draw(layer: Any, std: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        layer.weight.normal_(0.0, std, generator=generator)
        layer.bias.zero_()


def initial_std(encoder: PreTrainedModel) -> float:
    """Return the initial standard deviation for a new head on this encoder."""
    return float(getattr(encoder.config, "initializer_range", 0.02))
