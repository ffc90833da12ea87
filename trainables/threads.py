"""How many threads torch computes with."""

import torch


def limit_threads(threads: int) -> None:
    """Fix torch's threads for this process: sums over another number of them round differently."""
    torch.set_num_threads(threads)
