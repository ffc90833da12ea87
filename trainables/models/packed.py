"""Linear layers with weights in the CPU's own order, for models that only predict.

In fp32, torch multiplies with MKL, which uses half of the vector units of some CPUs. oneDNN uses all of them, reads a
weight faster that was reordered once, and applies an activation while the product is in the cache.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from transformers.activations import GELUActivation

from trainables.internals import packed_linear

_ROWS = 64
"""A product's rows are a multiple of this. oneDNN compiles a kernel for every number of rows, and keeps a thousand."""


def pack_linears(model: nn.Module) -> None:
    """Let every linear layer of a model in fp32 on the CPU use a packed copy of its weight from now on.

    The model may only predict afterwards, and its weights may not change. The copies take as much memory as the
    weights.
    """
    followed = _followed_by_gelu(model)
    for module in model.modules():
        # A subclass may do more than a product.
        if type(module) is not nn.Linear:
            continue
        packed = packed_linear(module.weight, module.bias, gelu=module in followed)
        if packed is None:
            return
        module.forward = partial(_in_few_sizes, packed)  # type: ignore[method-assign]
    for layer in followed.values():
        layer.intermediate_act_fn = nn.Identity()


def _in_few_sizes(layer: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Apply a layer to inputs (…, size) whose number of rows is rounded up."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    count, missing = len(rows), -len(rows) % _ROWS
    if missing:
        # Padding by torch's own function would fill all rows before it copies them.
        padded = rows.new_empty(count + missing, rows.shape[1])
        padded[:count], padded[count:] = rows, 0.0
        rows = padded
    outputs = layer(rows)
    return outputs[:count].view(*inputs.shape[:-1], outputs.shape[-1])


def _followed_by_gelu(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return linear layers whose result goes through a GELU alone, with the module that applies it.

    These are the intermediate layers of BERT and the families that share its code.
    """
    followed: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        activation, dense = getattr(module, "intermediate_act_fn", None), getattr(module, "dense", None)
        if type(activation) is GELUActivation and type(dense) is nn.Linear:
            followed[dense] = module
    return followed
