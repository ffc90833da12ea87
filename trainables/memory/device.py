"""What a trial may ask of the device it runs on, whichever kind it is: ``cpu`` and ``cuda`` implement it."""

from contextlib import AbstractContextManager
from typing import Protocol

import torch

GIB = 2**30


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

    def budget_bytes(self) -> int:
        """The most that this process may hold, all in all: its share of the device, less what others hold there."""
        ...

    def live_bytes(self) -> int:
        """Bytes of the tensors that live on the device now."""
        ...

    def reserved_bytes(self) -> int:
        """What torch's allocator keeps for tensors, live or to come; the live bytes where it keeps none."""
        ...

    def peak_bytes(self) -> int:
        """The most that this process held since ``reset_peak``, all of it: tensors, reserves, context, workspaces.

        On the CPU tensors alone, and only what lived under ``enforce``.
        """
        ...

    def reset_peak(self) -> None:
        """Start the peak anew, from what is held now."""
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


def device_name(device: torch.device) -> str:
    """The card's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
