"""What a trial may ask of the device it runs on, whichever kind it is: ``cpu`` and ``cuda`` implement it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

GIB = 2**30

# Why memory ran out: the process's own need exceeds what it is entitled to; others hold what it was entitled to; or
# enough is free, but in pieces too small.
Cause = Literal["own", "neighbour", "fragmentation"]


@dataclass
class Measured:
    """What ``MemoryDevice.measured`` found: 0 until its block is left."""

    peak_bytes: int = 0


class MemoryDevice(Protocol):
    """A device and its memory as seen from this process. All sizes are bytes."""

    @property
    def torch_device(self) -> torch.device: ...

    def total_bytes(self) -> int:
        """All memory of the device."""
        ...

    def free_bytes(self) -> int:
        """What nobody holds now, whichever process."""
        ...

    def others_bytes(self) -> int:
        """What other processes hold on the device; 0 where that is not known."""
        ...

    def entitled_bytes(self) -> int:
        """The most that this process may ever hold, by its budget and its share; what others hold is not taken off."""
        ...

    def budget_bytes(self) -> int:
        """The most that this process may hold now, all in all: what it is entitled to, or less if others leave less."""
        ...

    def live_bytes(self) -> int:
        """Bytes of the tensors that live on the device now."""
        ...

    def reserved_bytes(self) -> int:
        """What torch's allocator keeps for tensors, live or to come; the live bytes where it keeps none."""
        ...

    def overhead_bytes(self) -> int:
        """What a process that trains here holds beside the tensors that a trace sees; 0 on the CPU."""
        ...

    def peak_bytes(self) -> int:
        """The most that this process held since ``reset_peak`` and could not give back: tensors, context, workspaces,
        and what the allocator keeps between tensors where it cannot give that back.

        On the CPU tensors alone, and only what lived under ``enforce``.
        """
        ...

    def reset_peak(self) -> None:
        """Start the peak anew, from what is held now."""
        ...

    def measured(self) -> AbstractContextManager[Measured]:
        """Measure the peak of a block: ``peak_bytes`` is set when it is left, by an exception too.

        What nothing refers to is released first. Afterwards the peak outside is as if the block had not run: only what
        it leaves behind counts. Where an exception leaves it, call ``release`` outside the ``except`` block before
        the outer peak counts again. Blocks may be nested; on the CPU they are left under the ``enforce`` that they
        were entered under.
        """
        ...

    def release(self) -> None:
        """Give back what nothing refers to any more. Call it outside ``except`` blocks: tracebacks hold tensors."""
        ...

    def enforce(self) -> AbstractContextManager[None]:
        """The context in which an allocation that would break the budget raises ``torch.OutOfMemoryError``.

        What lived before counts too. It holds for the thread that enters it and cannot be entered twice.
        """
        ...

    def needed_bytes(self, error: BaseException) -> int | None:
        """What an out-of-memory error's process held plus what it asked for; None where the error does not tell.

        Call it in the ``except`` block, where the failed frames still hold what they held.
        """
        ...

    def cause_of(self, error: BaseException) -> Cause:
        """Whose fault an out-of-memory error is; ``own`` where that cannot be told.

        Call it in the ``except`` block, as ``needed_bytes``.
        """
        ...


def entitlement(total_bytes: int, share: float, budget_gib: float | None) -> int:
    """The most that a process with this share of a device may hold, in bytes; a budget can only lower it."""
    entitled = int(share * total_bytes)
    return entitled if budget_gib is None else min(entitled, int(budget_gib * GIB))


def device_name(device: torch.device) -> str:
    """The card's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
