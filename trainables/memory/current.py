"""Which memory device this process runs on."""

import torch

from trainables.memory.cpu import CpuDevice
from trainables.memory.cuda import CudaDevice
from trainables.memory.device import MemoryDevice


def current_device(budget_gib: float | None = None, share: float = 1.0) -> MemoryDevice:
    """The first CUDA device this process may see, else the CPU.

    Args:
        budget_gib: the most that this process may hold there; None allows its share of the card, or all memory of
            the host or container on the CPU.
        share: the part of a card that is this process's; without effect on the CPU.
    """
    return CudaDevice(budget_gib, share) if torch.cuda.is_available() else CpuDevice(budget_gib)
