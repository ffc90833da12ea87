"""The optimizers: what each reads, its package, how it is built, and the memory of its states and steps.

Cheap to import: torch and an optimizer's package are imported when an optimizer is built.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.registry import Entry, Registry

if TYPE_CHECKING:
    import torch

    from trainables.settings import OptimSettings

Groups = list[dict[str, Any]]


class OptimizerMissingError(ValueError):
    """An optimizer's package is not installed. The message names it and the command that installs it."""


def two_tensors(parameters: "list[torch.Tensor]") -> int:
    """Return the room of a loop that frees one parameter's temporaries before the next parameter."""
    return 2 * max(parameter.nbytes for parameter in parameters)


@dataclass(frozen=True, kw_only=True)
class Optimizer(Entry):
    """An optimizer.

    Attributes:
        kind: name of the class that ``build`` returns.
        build: builds the optimizer over parameter groups, each with its ``lr`` and ``weight_decay``.
        make_state: makes the states of one parameter, given by its group and its index there, as the first step would.
        room_bytes: returns the most bytes that a step's temporaries take at once, beside gradients and states, for one
            group's parameters with gradients, in order; a group's temporaries are freed at its end.
        package: package, beside torch, that provides it; None for torch's own.
    """

    kind: str
    build: "Callable[[Groups, OptimSettings], torch.optim.Optimizer]"
    make_state: Callable[[Any, int, int], None]
    room_bytes: "Callable[[list[torch.Tensor]], int]" = two_tensors
    package: str | None = None

    @property
    def module(self) -> str | None:
        """Name of the module that the package provides."""
        return None if self.package is None else self.package.replace("-", "_")


def _adamw(groups: Groups, settings: "OptimSettings") -> "torch.optim.Optimizer":
    import torch

    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        # One kernel per parameter, on the CPU too: it reads and writes every tensor once, and makes none.
        fused=True,
    )


def _adamw_state(optimizer: Any, group_number: int, index: int) -> None:
    import torch

    parameter = optimizer.param_groups[group_number]["params"][index]
    optimizer.state[parameter] = {
        # A fused kernel counts its steps on the device.
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
    }


def _adafactor(groups: Groups, settings: "OptimSettings") -> "torch.optim.Optimizer":
    import torch

    # Adafactor's epsilons differ in kind from ``optim.eps``, and its second moment decays with the number of steps.
    return torch.optim.Adafactor(groups, lr=settings.lr, foreach=False)


def _adafactor_state(optimizer: Any, group_number: int, index: int) -> None:
    import torch

    parameter = optimizer.param_groups[group_number]["params"][index]
    state = optimizer.state[parameter] = {"step": torch.zeros((), dtype=torch.float32)}
    if parameter.ndim > 1:
        *leading, rows, columns = parameter.shape
        state["row_var"] = parameter.new_zeros((*leading, rows, 1))
        state["col_var"] = parameter.new_zeros((*leading, 1, columns))
    else:
        state["variance"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def _adafactor_room(parameters: "list[torch.Tensor]") -> int:
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


def _lion(groups: Groups, settings: "OptimSettings") -> "torch.optim.Optimizer":
    from lion_pytorch import Lion

    optimizer: torch.optim.Optimizer = Lion(groups, lr=settings.lr, betas=(settings.beta1, settings.beta2))
    return optimizer


def _lion_state(optimizer: Any, group_number: int, index: int) -> None:
    import torch

    parameter = optimizer.param_groups[group_number]["params"][index]
    optimizer.state[parameter] = {"exp_avg": torch.zeros_like(parameter)}


def _adamw_8bit(groups: Groups, settings: "OptimSettings") -> "torch.optim.Optimizer":
    from bitsandbytes.optim import AdamW8bit

    betas = settings.beta1, settings.beta2
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=settings.lr, betas=betas, eps=settings.eps)
    return optimizer


def _adamw_8bit_state(optimizer: Any, group_number: int, index: int) -> None:
    group = optimizer.param_groups[group_number]
    optimizer.init_state(group, group["params"][index], group_number, index)


_BY_ALL = frozenset({"optim.lr", "optim.layer_decay", "optim.weight_decay"})
_BY_ADAM = _BY_ALL | {"optim.beta1", "optim.beta2", "optim.eps"}

OPTIMIZERS = Registry(
    "headroom.optimizers",
    Optimizer,
    {
        "adamw": Optimizer(
            kind="AdamW",
            reads=_BY_ADAM,
            build=_adamw,
            make_state=_adamw_state,
            room_bytes=lambda parameters: 0,
        ),
        "adafactor": Optimizer(
            kind="Adafactor",
            reads=_BY_ALL,
            build=_adafactor,
            make_state=_adafactor_state,
            room_bytes=_adafactor_room,
        ),
        "lion": Optimizer(
            kind="Lion",
            reads=_BY_ALL | {"optim.beta1", "optim.beta2"},
            build=_lion,
            make_state=_lion_state,
            package="lion-pytorch",
        ),
        "adamw_8bit": Optimizer(
            kind="AdamW8bit",
            reads=_BY_ADAM,
            build=_adamw_8bit,
            make_state=_adamw_8bit_state,
            # One kernel per parameter. Its CPU replacement takes memory inside that is not counted.
            room_bytes=lambda parameters: 0,
            package="bitsandbytes",
        ),
    },
    section="optim",
)
"""Optimizers by ``optim.name``."""


def check_installed(name: str) -> None:
    """Check that an optimizer's package is installed, without importing it.

    Raises:
        OptimizerMissingError: the package of the optimizer ``name`` is not installed in this Python.
    """
    entry = OPTIMIZERS[name]
    if entry.module is not None and importlib.util.find_spec(entry.module) is None:
        raise OptimizerMissingError(
            f"optim.name: {name!r} needs the package {entry.package}, which is not installed; run:"
            f" pip install {entry.package}, or use another optimizer"
        )


def optimizer_version(name: str) -> str | None:
    """Return the version of the package that provides the optimizer; None for torch's own.

    Raises:
        OptimizerMissingError: the package is not installed.
    """
    check_installed(name)
    package = OPTIMIZERS[name].package
    return None if package is None else importlib.metadata.version(package)
