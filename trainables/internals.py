"""All private names of torch and transformers that a trial uses, as read in torch 2.13.0 and transformers 5.23.0.

A name is private here if it begins with an underscore, lies in a module that does, or is not documented. Every function
and class names its private names and their purpose. ``tests/trainables/test_internals.py`` asserts that each of them
exists with the signature that is relied on, and that no other module uses any.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import _scoped_library
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "DispatchMode",
    "FakeTensorMode",
    "attention_mask_for_sdpa",
    "cached_file",
    "clear_cublas_workspaces",
    "decomposed",
    "dropout_with_mask",
    "efficient_attention",
    "is_composite",
    "is_number_read",
    "kernels_of",
    "makes_storage",
    "no_random_weights",
    "operator_key",
    "packed_linear",
    "set_attention",
    "set_checkpointing",
    "storage_address",
    "without_autocast",
    "without_dispatch",
    "without_modes",
]

# ``torch._subclasses.fake_tensor.FakeTensorMode``, imported above: tensors without data, for traces of memory.

# Their schemas say that they return their arguments, but the storage may be another or a larger one afterwards.
_CHANGE_STORAGE = ("aten::resize_", "aten::resize_as_", "aten::set_", "aten::lift_fresh")

storage_address: Callable[[Any], int] = attrgetter("_cdata")
"""Return a number that identifies a storage while it lives: ``torch.UntypedStorage._cdata``."""

operator_key: Callable[[Any], Any] = attrgetter("_op")
"""Return the function behind an operator, whose hash is fast: ``torch._ops.OpOverload._op``."""


class DispatchMode(TorchDispatchMode):
    """Base class of modes that see every operator: ``torch.utils._python_dispatch.TorchDispatchMode``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The default wraps every call for the compiler's sake, which costs more than our modes do.
        return False


def without_modes() -> AbstractContextManager[Any]:
    """Return a context without any dispatch mode: ``torch.utils._python_dispatch._disable_current_modes``."""
    context: AbstractContextManager[Any] = _disable_current_modes()
    return context


def without_dispatch() -> AbstractContextManager[Any]:
    """Return a context in which no dispatch mode sees an operator: ``torch.utils._mode_utils.no_dispatch``."""
    context: AbstractContextManager[Any] = no_dispatch()
    return context


def decomposed(operator: Any, args: Any, kwargs: Any) -> Any:
    """Run a composite operator as its parts, which dispatch modes see: ``torch._ops.OpOverload.decompose``."""
    return operator.decompose(*args, **kwargs)


def is_composite(operator: Any) -> bool:
    """Return whether an operator has parts: ``torch._ops.OpOverload._can_decompose``."""
    return bool(operator._can_decompose())


def has_cpu_kernel(operator: Any) -> bool:
    """Return whether an operator runs whole on the CPU: ``torch._C._dispatch_has_kernel_for_dispatch_key``."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "CPU"))


def makes_storage(operator: Any) -> bool:
    """Return whether an operator may return a new or larger storage: ``torch._ops.OpOverload._schema``."""
    schema = operator._schema
    fresh = any("Tensor" in str(returned.type) and returned.alias_info is None for returned in schema.returns)
    grows = any(argument.is_out for argument in schema.arguments) or operator.name().split(".")[0] in _CHANGE_STORAGE
    return fresh or grows


def is_number_read(operator: Any) -> bool:
    """Return whether an operator reads a number out of a tensor: ``aten::_local_scalar_dense``."""
    return operator is torch.ops.aten._local_scalar_dense.default


def kernels_of(namespace: str) -> AbstractContextManager[Any]:
    """Return a library whose ``impl`` replaces kernels of a namespace until the block ends.

    ``torch.library._scoped_library``: the public ``Library`` is never undone. The replacement affects the whole
    process.
    """
    library: AbstractContextManager[Any] = _scoped_library(namespace, "IMPL")
    return library


def without_autocast() -> AbstractContextManager[Any]:
    """Return a context in which the CPU's autocast casts nothing.

    ``torch._C._ExcludeDispatchKeyGuard``: ``torch.autocast(enabled=False)`` would call the replaced kernels again.
    """
    guard: AbstractContextManager[Any] = torch._C._ExcludeDispatchKeyGuard(
        torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    )
    return guard


def efficient_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float, scale: float | None
) -> Tensor:
    """Run the attention kernel that CUDA takes, on any device: ``aten::_scaled_dot_product_efficient_attention``.

    Inputs and output are (batch, heads, length, size).
    """
    outputs = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, torch.is_grad_enabled(), dropout, False, scale=scale
    )
    output: Tensor = outputs[0]
    return output


def dropout_with_mask(features: Tensor, rate: float) -> Tensor:
    """Drop features as CUDA does, which keeps a mask of one byte per element: ``torch.native_dropout``."""
    output: Tensor = torch.native_dropout(features, rate, True)[0]
    return output


def clear_cublas_workspaces() -> None:
    """Free cuBLAS's workspaces, which the next pass makes anew: ``torch._C._cuda_clearCublasWorkspaces``."""
    torch._C._cuda_clearCublasWorkspaces()


def no_random_weights() -> AbstractContextManager[Any]:
    """Return a context in which models are built without drawing weights: ``transformers.initialization``."""
    from transformers.initialization import no_init_weights

    context: AbstractContextManager[Any] = no_init_weights()
    return context


def mark_initialised(model: "PreTrainedModel") -> None:
    """Make ``init_weights`` of a model around this one leave its weights as they are: ``_is_hf_initialized``."""
    for module in model.modules():
        module._is_hf_initialized = True  # type: ignore[assignment]


def model_class(auto: Any, config: "PreTrainedConfig") -> "type[PreTrainedModel] | None":
    """Return the class that an automatic class builds for a configuration; None if it has none: ``_model_mapping``."""
    kind: type[PreTrainedModel] | None = auto._model_mapping.get(type(config), None)
    return kind


def packed_linear(weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Callable[[Tensor], Tensor] | None:
    """Return a linear layer whose weight, (outputs, inputs), was reordered for the CPU's vector units once.

    It is ``torch.ops.mkldnn._linear_pointwise`` on the result of ``_reorder_linear_weight``, as in torch's compiled
    models. None if torch was built without oneDNN.

    Args:
        gelu: apply a GELU to the result.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    activation: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def layer(inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, *activation)
        return outputs

    return layer


def attention_mask_for_sdpa() -> Callable[..., Any]:
    """Return the function that makes masks for torch's attention: ``transformers.masking_utils.sdpa_mask``."""
    from transformers.masking_utils import sdpa_mask

    return sdpa_mask


def set_attention(config: "PreTrainedConfig", name: str) -> None:
    """Make a model that is built from the configuration call a registered attention function.

    ``PreTrainedConfig._attn_implementation``: the public ``attn_implementation`` is an argument of ``from_pretrained``,
    which is not used.
    """
    config._attn_implementation = name


def set_checkpointing(encoder: "PreTrainedModel", recompute: Callable[..., Any]) -> None:
    """Recompute each layer in the backward pass by a function: ``PreTrainedModel._set_gradient_checkpointing``.

    The public method also asks for gradients of the embeddings' output. Frozen layers would then store activations for
    nothing.
    """
    encoder._set_gradient_checkpointing(True, recompute)


def cached_file(name: str, filename: str, *, revision: str | None, local_files_only: bool) -> Path | None:
    """Return the local path of a hub model's file, downloaded if need be; None if the model has no such file.

    ``transformers.utils.hub.cached_file`` with ``_raise_exceptions_for_missing_entries``: the public functions raise
    the same error for a missing file as for a missing model.

    Raises:
        OSError: the hub refuses, or nothing is cached.
    """
    from transformers.utils import hub

    path = hub.cached_file(
        name,
        filename,
        revision=revision,
        local_files_only=local_files_only,
        _raise_exceptions_for_missing_entries=False,
    )
    return None if path is None else Path(path)
