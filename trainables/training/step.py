"""One optimizer step over an effective batch, and its passes."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from trainables.tasks.protocol import Batch, Task
from trainables.training.divergence import diverged
from trainables.training.optimizer import apply_step
from trainables.training.precision import autocast


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def accumulate_gradient(
    model: nn.Module, task: Task, micro_batches: Iterable[Batch], counted: float, precision: str
) -> float:
    """Add the gradient of the effective batch's mean loss to the parameters' ``grad``; return that mean loss.

    Each micro-batch's summed loss is divided by ``counted``, the weight of the *whole* effective batch. The sum over
    micro-batches is therefore the gradient of a single pass, whatever the cut.
    """
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for batch in micro_batches:
        total += backward_pass(model, task, to_device(batch, device), counted, precision)
    return float(total)


def backward_pass(model: nn.Module, task: Task, batch: Batch, counted: float, precision: str) -> torch.Tensor:
    """Run forward and backward over one micro-batch on the model's device; return its share of the mean loss.

    A separate function ensures that nothing of one micro-batch is alive during the next.
    """
    with autocast(precision, batch["input_ids"].device):
        outputs = model(batch)
    loss = task.loss_sum(outputs, batch) / counted
    loss.backward()
    return loss.detach()


def train_step(
    model: nn.Module,
    task: Task,
    micro_batches: Sequence[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    clip_norm: float,
    precision: str,
) -> float:
    """Run one optimizer step over one effective batch; return its mean loss per counted sample.

    Args:
        micro_batches: the whole effective batch, cut; on the CPU.
        clip_norm: largest gradient norm; 0 disables clipping.

    Raises:
        NonFiniteLossError: the loss is NaN or infinite; no step was taken.
        torch.OutOfMemoryError: no step was taken either; the same batch may be retried with another cut.
        MemoryTakenError: other processes took memory in the middle of the step, which cannot be retried.
    """
    counted = sum(task.counted(batch) for batch in micro_batches)
    # Zero the gradients before the step, so that a step that failed half-way leaves nothing for the next one.
    optimizer.zero_grad(set_to_none=True)
    loss = accumulate_gradient(model, task, micro_batches, counted, precision)
    if not math.isfinite(loss):
        raise diverged(f"training loss became {loss}", model, optimizer, clip_norm=clip_norm, precision=precision)
    # Nothing is read back after this: the device works on while the host pads the next batch.
    apply_step(optimizer, [parameter for parameter in model.parameters() if parameter.requires_grad], clip_norm)
    return loss
