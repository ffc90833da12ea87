"""The number of threads that torch computes with."""

import torch


def limit_threads(threads: int) -> None:
    """Fix torch's number of threads for this process: sums round differently with another number."""
    torch.set_num_threads(threads)
