"""The optimizers, with weight decay on the right parameters: their states before the first step, and their steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainables.devices.counting import uncounted
from trainables.devices.errors import is_out_of_memory
from trainables.optimizers import check_installed
from trainables.settings import OptimSettings
from trainables.training.groups import parameter_groups
from trainables.worker import MemoryTakenError

Groups = list[dict[str, Any]]


def build_optimizer(model: nn.Module, settings: OptimSettings, *, fused: bool | None = None) -> torch.optim.Optimizer:
    """Build the optimizer ``settings.name`` over the trainable parameters.

    ``fused`` uses one kernel for all parameters instead of a loop, if the optimizer has one; None does so on CUDA
    alone.

    Raises:
        OptimizerMissingError: the optimizer's package is not installed.
    """
    check_installed(settings.name)
    groups = parameter_groups(model, settings)
    if fused is None:
        fused = any(parameter.is_cuda for group in groups for parameter in group["params"])
    return _BUILDERS[settings.name](groups, settings, fused)


def _adamw(groups: Groups, settings: OptimSettings, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        # Set explicitly, because the default differs by device: one fused kernel on CUDA, the plain loop on CPU.
        fused=fused,
        foreach=False,
    )


def _adafactor(groups: Groups, settings: OptimSettings, fused: bool) -> torch.optim.Optimizer:
    # Adafactor's epsilons differ in kind from ``optim.eps``, and its second moment decays with the number of steps.
    return torch.optim.Adafactor(groups, lr=settings.lr, foreach=False)


def _lion(groups: Groups, settings: OptimSettings, fused: bool) -> torch.optim.Optimizer:
    from lion_pytorch import Lion

    optimizer: torch.optim.Optimizer = Lion(groups, lr=settings.lr, betas=(settings.beta1, settings.beta2))
    return optimizer


def _adamw_8bit(groups: Groups, settings: OptimSettings, fused: bool) -> torch.optim.Optimizer:
    # The package makes tensors of its own at import, which must be neither counted nor traced.
    with uncounted():
        from bitsandbytes.optim import AdamW8bit

    betas = settings.beta1, settings.beta2
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=settings.lr, betas=betas, eps=settings.eps)
    return optimizer


_BUILDERS: dict[str, Callable[[Groups, OptimSettings, bool], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adafactor": _adafactor,
    "lion": _lion,
    "adamw_8bit": _adamw_8bit,
}


def prepare_states(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's states now, as its first step would, so that every step needs the same memory."""
    make = _STATES[type(optimizer).__name__]
    for number, group in enumerate(optimizer.param_groups):
        for position in range(len(group["params"])):
            make(optimizer, number, position)


def _adamw_state(optimizer: Any, group_number: int, position: int) -> None:
    group = optimizer.param_groups[group_number]
    parameter = group["params"][position]
    # A fused kernel counts its steps on the device.
    where = parameter.device if group["fused"] else "cpu"
    optimizer.state[parameter] = {
        "step": torch.zeros((), dtype=torch.float32, device=where),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
    }


def _adafactor_state(optimizer: Any, group_number: int, position: int) -> None:
    parameter = optimizer.param_groups[group_number]["params"][position]
    state = optimizer.state[parameter] = {"step": torch.zeros((), dtype=torch.float32)}
    if parameter.ndim > 1:
        *leading, rows, columns = parameter.shape
        state["row_var"] = parameter.new_zeros((*leading, rows, 1))
        state["col_var"] = parameter.new_zeros((*leading, 1, columns))
    else:
        state["variance"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def _lion_state(optimizer: Any, group_number: int, position: int) -> None:
    parameter = optimizer.param_groups[group_number]["params"][position]
    optimizer.state[parameter] = {"exp_avg": torch.zeros_like(parameter)}


def _adamw_8bit_state(optimizer: Any, group_number: int, position: int) -> None:
    group = optimizer.param_groups[group_number]
    optimizer.init_state(group, group["params"][position], group_number, position)


_STATES: dict[str, Callable[[Any, int, int], None]] = {
    "AdamW": _adamw_state,
    "Adafactor": _adafactor_state,
    "Lion": _lion_state,
    "AdamW8bit": _adamw_8bit_state,
}
"""Functions that make the states of one parameter, given by its group and its index there."""


def room_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the most bytes that a step's temporaries take at once, beside gradients and states."""
    room = _ROOM.get(type(optimizer).__name__, _two_tensors)
    groups = [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
    if optimizer.defaults.get("fused"):
        return 0
    return max((room(parameters) for parameters in groups if parameters), default=0)


def _adamw_room(parameters: list[Tensor]) -> int:
    """Return the room of AdamW's loop: two tensors of the current parameter's size, and one of the previous one's."""
    before = most = 0
    for parameter in parameters:
        most = max(most, before + 2 * parameter.nbytes)
        before = parameter.nbytes
    return most


def _adafactor_room(parameters: list[Tensor]) -> int:
    """Return the room of Adafactor's loop.

    The update, the means of rows and columns, and a vector's square live until the next one of their kind is made.
    """
    row_means = column_means = update = square = most = 0
    for parameter in parameters:
        size, norm = parameter.nbytes, parameter.element_size()
        most = max(most, row_means + column_means + update + square + norm)
        if parameter.ndim > 1:
            rows, columns = size // parameter.shape[-1], size // parameter.shape[-2]
            most = max(most, row_means + column_means + update + square + rows)
            most = max(most, rows + column_means + update + square + columns)
            row_means, column_means = rows, columns
            most = max(most, row_means + column_means + update + square + size + rows // parameter.shape[-2])
        else:
            most = max(most, row_means + column_means + update + square + size)
            square = size
            most = max(most, row_means + column_means + update + square + size)
        update = size
        most = max(most, row_means + column_means + update + square + norm)
    return most


def _two_tensors(parameters: list[Tensor]) -> int:
    """Return the room of a loop that frees one parameter's temporaries before the next parameter."""
    return 2 * max(parameter.nbytes for parameter in parameters)


def _none_seen(parameters: list[Tensor]) -> int:
    return 0


_ROOM: dict[str, Callable[[list[Tensor]], int]] = {
    "AdamW": _adamw_room,
    "Adafactor": _adafactor_room,
    "Lion": _two_tensors,
    # One kernel per parameter. Its CPU replacement takes memory inside that is not counted.
    "AdamW8bit": _none_seen,
}
"""Bytes for one group's parameters with gradients, in order; a group's temporaries are freed at its end."""


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
