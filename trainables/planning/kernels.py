"""Emulation of a device's kernels, autocast, optimizer and allocator, for traces on fake CPU tensors.

A build of torch without CUDA cannot make fake CUDA tensors. A model meant for CUDA is therefore traced on fake CPU
tensors and led along CUDA's path. That path has the efficient attention kernel with its mask and dropout, and dropout
that keeps a mask of one byte per element. It also has autocast's longer list of operations in fp32.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

from trainables.devices.cuda import ALLOCATOR_OVERHEAD_BYTES, CONTEXT_BYTES
from trainables.internals import (
    attention_mask_for_sdpa,
    dropout_with_mask,
    efficient_attention,
    kernels_of,
    set_attention,
    without_autocast,
)
from trainables.models.families import FAMILIES, Family

_BLOCK_BYTES = 512
_ATTENTION = "headroom_efficient"

# Operations that CUDA's autocast runs in fp32, that encoders call, and that the CPU's list lacks. The second group
# takes its input unchanged and returns fp32.
_CAST_TO_FP32 = (
    "layer_norm",
    "native_layer_norm",
    "pow.Tensor_Scalar",
    "pow.Tensor_Tensor",
    "exp",
    "log",
    "rsqrt",
    "reciprocal",
    "logsumexp",
)
_RETURN_FP32 = ("softmax.int", "log_softmax.int", "cumsum", "sum", "sum.dim_IntList")


class Kernels(Protocol):
    """Device-specific ways to allocate memory.

    Attributes:
        copies_batch: whether a batch takes memory of the device; on the CPU it stays where the loader made it.
        overhead_bytes: memory that no trace sees.
    """

    copies_batch: bool
    overhead_bytes: int

    def prepared(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return a copy of the configuration to build the model from."""
        ...

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which the model allocates as on the device; it may modify the model for good."""
        ...

    def rounded(self, size_bytes: int) -> int:
        """Return the bytes that the allocator takes for a storage."""
        ...


class CpuKernels:
    """The CPU's own kernels, with storages counted by the byte."""

    copies_batch = False
    overhead_bytes = 0

    def prepared(self, config: PreTrainedConfig) -> PreTrainedConfig:
        return deepcopy(config)

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def rounded(self, size_bytes: int) -> int:
        return size_bytes


class CudaKernels:
    """Emulated CUDA kernels. The overhead is that of a large card; a run on a card measures its own."""

    copies_batch = True
    overhead_bytes = CONTEXT_BYTES + ALLOCATOR_OVERHEAD_BYTES

    def prepared(self, config: PreTrainedConfig) -> PreTrainedConfig:
        AttentionInterface.register(_ATTENTION, _efficient_attention)
        AttentionMaskInterface.register(_ATTENTION, attention_mask_for_sdpa())
        prepared = deepcopy(config)
        if not FAMILIES.get(prepared.model_type, Family()).own_attention:
            set_attention(prepared, _ATTENTION)
        return prepared

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.__dict__["forward"] = _masked_dropout(module)
        # The registration affects the whole process while it lasts, but only operations under autocast on the CPU.
        with kernels_of("aten") as library:
            for name in _CAST_TO_FP32:
                library.impl(name, _with_fp32_input(_overload(name)), "AutocastCPU")
            for name in _RETURN_FP32:
                library.impl(name, _with_fp32_output(_overload(name)), "AutocastCPU")
            yield

    def rounded(self, size_bytes: int) -> int:
        return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


KERNELS: dict[str, type[Kernels]] = {"cpu": CpuKernels, "cuda": CudaKernels}


def _masked_dropout(module: nn.Dropout) -> Callable[[Tensor], Tensor]:
    def forward(features: Tensor) -> Tensor:
        if not module.training or module.p == 0:
            return features
        return dropout_with_mask(features, module.p)

    return forward


def _efficient_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Call the kernel as ``scaled_dot_product_attention`` does on CUDA; all inputs are (batch, heads, length, size)."""
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    bias = None
    if attention_mask is not None:
        # The kernel takes no boolean mask.
        bias = torch.where(attention_mask, 0.0, torch.tensor(float("-inf"), dtype=query.dtype))
        bias = bias.expand(*query.shape[:-1], key.shape[-2])
    return efficient_attention(query, key, value, bias, dropout, scaling).transpose(1, 2).contiguous(), None


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _with_fp32_input(operation: Any) -> Callable[..., Any]:
    def run(features: Tensor, *args: Any, **kwargs: Any) -> Any:
        with without_autocast():
            return operation(features.float(), *(_fp32(value) for value in args), **kwargs)

    return run


def _with_fp32_output(operation: Any) -> Callable[..., Any]:
    def run(features: Tensor, *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Any:
        if dtype is None and features.is_floating_point():
            dtype = torch.float32
        with without_autocast():
            return operation(features, *args, dtype=dtype, **kwargs)

    return run


def _fp32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
