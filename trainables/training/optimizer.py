"""The optimizer of a run, with weight decay on the right parameters: its states before the first step, and steps."""

from importlib import import_module

import torch
from torch import nn

from trainables.devices.counting import uncounted
from trainables.devices.errors import is_out_of_memory
from trainables.optimizers import OPTIMIZERS, Optimizer, check_installed, two_tensors
from trainables.settings import OptimSettings
from trainables.training.groups import parameter_groups
from trainables.worker import MemoryTakenError


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Build the optimizer ``settings.name`` over the trainable parameters.

    Raises:
        OptimizerMissingError: the optimizer's package is not installed.
    """
    check_installed(settings.name)
    entry = OPTIMIZERS[settings.name]
    if entry.module is not None:
        # A package may make tensors of its own at import, which must be neither counted nor traced.
        with uncounted():
            import_module(entry.module)
    return entry.build(parameter_groups(model, settings), settings)


def prepare_states(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's states now, as its first step would, so that every step needs the same memory."""
    entry = _entry_of(optimizer)
    if entry is None:
        raise ValueError(f"no optimizer of the registry is a {type(optimizer).__name__}")
    for number, group in enumerate(optimizer.param_groups):
        for index in range(len(group["params"])):
            entry.make_state(optimizer, number, index)


def _entry_of(optimizer: torch.optim.Optimizer) -> Optimizer | None:
    """Return the entry that built an optimizer, known by the name of its class; None for another optimizer."""
    kind = type(optimizer).__name__
    return next((entry for entry in OPTIMIZERS.values() if entry.kind == kind), None)


def room_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the most bytes that a step's temporaries take at once, beside gradients and states."""
    entry = _entry_of(optimizer)
    room = two_tensors if entry is None else entry.room_bytes
    groups = [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
    return max((room(parameters) for parameters in groups if parameters), default=0)


def apply_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip_norm: float) -> None:
    """Clip the gradients (0: no clipping) and step, after checking that the step's own memory is available.

    A step that runs out of memory half-way has changed some weights but not others, and cannot be undone. If memory
    runs out before the step, the batch can be retried.

    Raises:
        torch.OutOfMemoryError: there is no room for the step; no weight was changed.
        MemoryTakenError: other processes took the room after the check; the weights are no longer usable.
    """
    if clip_norm > 0:
        nn.utils.clip_grad_norm_(parameters, clip_norm)
    torch.empty(room_bytes(optimizer), dtype=torch.uint8, device=parameters[0].device)
    try:
        optimizer.step()
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = str(error)
    raise MemoryTakenError("neighbour", f"in the middle of an optimizer step: {message}")
