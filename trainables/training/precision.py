"""Number formats: autocast to bf16 on devices with bf16 units, fp32 elsewhere, TF32 for fp32 matrix products."""

from contextlib import AbstractContextManager, nullcontext

import torch

# Ampere, the first generation with bf16 matrix units.
_BF16_CAPABILITY = (8, 0)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return ``fp32`` or ``bf16`` for the setting ``train.precision`` on this device.

    ``auto`` means bf16 on CUDA devices with bf16 matrix units and fp32 elsewhere. Few CPUs have such units, and a
    result should not depend on the CPU that runs the trial.

    Raises:
        ValueError: the setting is none of auto, fp32, bf16.
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
        return "bf16" if fast else "fp32"
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"train.precision: {precision!r} is not auto, fp32 or bf16")
    return precision


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context for forward passes; weights stay fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def set_tf32(enabled: bool) -> None:
    """Allow or forbid TF32 units for fp32 matrix products on CUDA, for this process."""
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled
