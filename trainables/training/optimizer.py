"""AdamW with weight decay where it belongs, and its steps."""

import torch
from torch import nn

from trainables.memory.errors import is_out_of_memory
from trainables.settings import OptimSettings
from trainables.worker import MemoryTakenError


def build_optimizer(model: nn.Module, settings: OptimSettings, *, fused: bool | None = None) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases and normalisation weights (one dimension) are not decayed.

    ``fused`` takes one kernel for all parameters in place of a loop over them; None does so on CUDA alone.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if fused is None:
        fused = any(parameter.is_cuda for parameter in trainable)
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        # Said outright, because the default differs by device: one fused kernel on CUDA, the plain loop on CPU.
        fused=fused,
        foreach=False,
    )


def prepare_states(optimizer: torch.optim.AdamW) -> None:
    """Make the optimizer's states at once, as its first step would: from here on every step needs the same memory."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            # A fused kernel counts its steps on the device.
            where = parameter.device if group["fused"] else "cpu"
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=where),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }


def apply_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip_norm: float) -> None:
    """Clip the gradients (0: not) and step, after proof that the step's own memory is there.

    A step that runs out of memory half-way has changed some weights and not others, and nothing could undo that. What
    runs out before it can be done again from the batch.

    Raises:
        torch.OutOfMemoryError: there is no room for the step; no weight was changed.
        MemoryTakenError: others took the room after it had been proved; the weights are of no use any more.
    """
    if clip_norm > 0:
        nn.utils.clip_grad_norm_(parameters, clip_norm)
    if not optimizer.param_groups[0].get("fused"):
        # The loop over the parameters makes two tensors of the size of the one it is at.
        largest = max(parameters, key=torch.numel)
        torch.empty((2, *largest.shape), dtype=largest.dtype, device=largest.device)
    try:
        optimizer.step()
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = str(error)
    raise MemoryTakenError("neighbour", f"in the middle of an optimizer step: {message}")
