"""The interface of a memory device, whatever its kind: ``cpu`` and ``cuda`` implement it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from trainables.devices.host import GIB

# Why memory ran out. ``own``: the process needs more than it is entitled to. ``neighbour``: others hold what it is
# entitled to. ``fragmentation``: enough is free, but in pieces that are too small.
Cause = Literal["own", "neighbour", "fragmentation"]


@dataclass
class Measured:
    """The result of ``MemoryDevice.measured``: 0 until its block ends."""

    peak_bytes: int = 0


class MemoryDevice(Protocol):
    """A device and its memory as seen from this process. All sizes are bytes."""

    @property
    def torch_device(self) -> torch.device: ...

    def total_bytes(self) -> int:
        """Return all memory of the device."""
        ...

    def free_bytes(self) -> int:
        """Return the memory that no process holds now."""
        ...

    def others_bytes(self) -> int:
        """Return the memory that other processes hold on the device; 0 if it is unknown."""
        ...

    def entitled_bytes(self) -> int:
        """Return the most that this process may ever hold, by its budget and its share, whatever others hold."""
        ...

    def budget_bytes(self) -> int:
        """Return the most that this process may hold now in total: its entitlement, or less if others leave less."""
        ...

    def live_bytes(self) -> int:
        """Return the bytes of the tensors that live on the device now."""
        ...

    def reserved_bytes(self) -> int:
        """Return the memory that torch's allocator keeps for tensors, used or not; the live bytes if it keeps none."""
        ...

    def overhead_bytes(self) -> int:
        """Return the memory that a training process holds beside the tensors that a trace sees; 0 on the CPU."""
        ...

    def peak_bytes(self) -> int:
        """Return the most that this process held since ``reset_peak`` and could not give back.

        It covers tensors, context and workspaces, and free memory that the allocator cannot give back.

        On the CPU it covers tensors alone, and only those that lived under ``enforce``.
        """
        ...

    def reset_peak(self) -> None:
        """Restart the peak from the memory held now."""
        ...

    def measured(self) -> AbstractContextManager[Measured]:
        """Measure the peak of a block; ``peak_bytes`` is set when the block ends, also by an exception.

        Unreferenced memory is released first. Afterwards the outer peak is as if the block had not run: only what it
        leaves behind counts. If an exception ends the block, call ``release`` outside the ``except`` block before the
        outer peak counts again. Blocks may be nested. On the CPU a block must end under the ``enforce`` in which it
        began.
        """
        ...

    def release(self) -> None:
        """Release unreferenced memory. Call it outside ``except`` blocks, because tracebacks hold tensors."""
        ...

    def enforce(self) -> AbstractContextManager[None]:
        """Return a context in which an allocation beyond the budget raises ``torch.OutOfMemoryError``.

        Memory that lived before counts too. The context applies to the thread that enters it and cannot be entered
        twice.
        """
        ...

    def needed_bytes(self, error: BaseException) -> int | None:
        """Return the memory that a failed process held and asked for; None if the error does not name it.

        Call it in the ``except`` block, while the failed frames still hold their memory.
        """
        ...

    def cause_of(self, error: BaseException) -> Cause:
        """Return who caused an out-of-memory error; ``own`` if that is unknown.

        Call it in the ``except`` block, as for ``needed_bytes``.
        """
        ...


def entitlement(total_bytes: int, share: float, budget_gib: float | None) -> int:
    """Return the most that a process with this share of a device may hold, in bytes; a budget can only lower it."""
    entitled = int(share * total_bytes)
    return entitled if budget_gib is None else min(entitled, int(budget_gib * GIB))


def device_name(device: torch.device) -> str:
    """Return the card's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
