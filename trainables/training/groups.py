"""Parameter groups for any optimizer, each with its learning rate and weight decay."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from trainables.models.families import beneath_layers, check_supported, layer_stack
from trainables.settings import OptimSettings


def parameter_groups(model: nn.Module, settings: OptimSettings) -> list[dict[str, Any]]:
    """Return groups that hold every trainable parameter once: ``params`` with their ``lr`` and ``weight_decay``.

    Heads, poolers and everything else above an encoder's layers train at ``settings.lr``. Each layer trains at
    ``settings.layer_decay`` times the rate of the layer above. Everything beneath the first layer trains as one more
    layer (Clark et al., "ELECTRA", 2020, table 7). This applies to each encoder of a model separately. Biases and
    normalisation weights (one dimension) have no weight decay. No group is empty; the highest rates come first.

    Raises:
        UnsupportedError: ``layer_decay`` is below 1, and an encoder's layers are unknown or shared.
    """
    levels = _levels(model, settings.layer_decay) if settings.layer_decay < 1 else {}
    kinds = [
        (levels.get(parameter, 0), parameter.ndim <= 1, parameter)
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    in_order = groupby(sorted(kinds, key=lambda kind: kind[:2]), key=lambda kind: kind[:2])
    return [
        {
            "params": [parameter for *_, parameter in members],
            "lr": settings.lr * settings.layer_decay**level,
            "weight_decay": 0.0 if is_plain else settings.weight_decay,
        }
        for (level, is_plain), members in in_order
    ]


def _levels(model: nn.Module, layer_decay: float) -> dict[nn.Parameter, int]:
    """Return the number of steps below the head for the parameters of encoder layers and of the modules beneath."""
    levels: dict[nn.Parameter, int] = {}
    for encoder in _encoders(model):
        check_supported(encoder.config, {"optim.layer_decay": layer_decay})
        layers = layer_stack(encoder)
        for position, layer in enumerate(layers):
            levels |= dict.fromkeys(layer.parameters(), len(layers) - position)
        for module in beneath_layers(encoder):
            levels |= dict.fromkeys(module.parameters(), len(layers) + 1)
    return levels


def _encoders(model: nn.Module) -> Iterator[PreTrainedModel]:
    models = (module for module in model.modules() if isinstance(module, PreTrainedModel))
    # A model of transformers with a head holds its encoder.
    return (module for module in models if module.base_model is module)
