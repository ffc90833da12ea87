"""Selection of the memory device for this process."""

from pathlib import Path

import torch

from trainables.devices.cpu import CpuDevice
from trainables.devices.cuda import CudaDevice
from trainables.devices.device import MemoryDevice
from trainables.devices.shared import SharedBudget


def current_device(
    budget_gib: float | None = None,
    share: float = 1.0,
    *,
    device_gib: float | None = None,
    card: str | None = None,
    folder: Path | None = None,
) -> MemoryDevice:
    """Return the first CUDA device that this process may see, else the CPU.

    Args:
        budget_gib: the most that this process may hold; None allows its share of the card, or of all memory of the host
            or container on the CPU.
        share: this process's part of a card, or of the host's memory on the CPU; a budget can only lower it.
        device_gib: the size of the card. A real card counts as no larger, and on the CPU a card of this size is
            simulated.
        card: a plain file name that identifies one of the simulated cards; None means the only one.
        folder: the folder in which processes that share a simulated card record their holdings; None gives the card to
            this process alone. It has no effect on CUDA, where the driver keeps count, or without ``device_gib``.
    """
    if torch.cuda.is_available():
        return CudaDevice(budget_gib, share=share, device_gib=device_gib)
    shared = None if device_gib is None or folder is None else SharedBudget(folder / f"{card or 'cpu'}.slots")
    return CpuDevice(budget_gib, share=share, device_gib=device_gib, shared=shared)
