"""Which memory device this process runs on."""

from pathlib import Path

import torch

from trainables.memory.cpu import CpuDevice
from trainables.memory.cuda import CudaDevice
from trainables.memory.device import MemoryDevice
from trainables.memory.shared import SharedBudget


def current_device(
    budget_gib: float | None = None,
    share: float = 1.0,
    *,
    device_gib: float | None = None,
    card: str | None = None,
    folder: Path | None = None,
) -> MemoryDevice:
    """The first CUDA device this process may see, else the CPU.

    Args:
        budget_gib: the most that this process may hold there; None allows its share of the card, or of all
            memory of the host or container on the CPU.
        share: the part of a card, or on the CPU of the host's memory, that is this process's; a budget can only lower
            it.
        device_gib: the size of the card: a real one counts as no larger, and of the CPU one of that size is made.
        card: which of the cards made of the CPU, a plain file name; None is the only one.
        folder: where the processes that share a card made of the CPU keep what each of them holds; None if this
            process has it to itself. Without effect on CUDA, where the driver knows, or without ``device_gib``.
    """
    if torch.cuda.is_available():
        return CudaDevice(budget_gib, share=share, device_gib=device_gib)
    shared = None if device_gib is None or folder is None else SharedBudget(folder / f"{card or 'cpu'}.slots")
    return CpuDevice(budget_gib, share=share, device_gib=device_gib, shared=shared)
