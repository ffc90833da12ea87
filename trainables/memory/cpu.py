"""The CPU as a memory device: tensors are counted, and may take no more than a budget."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.memory.counting import BudgetExceededError, StorageCounter, existing_storages
from trainables.memory.device import GIB
from trainables.memory.host import host_memory


class CpuDevice:
    """Host memory. Under ``enforce`` every storage is counted, else they are found by the garbage collector.

    Args:
        budget_gib: the most that live tensors may take; None allows all memory of the machine or container.
    """

    def __init__(self, budget_gib: float | None = None) -> None:
        self._budget = host_memory().total_bytes if budget_gib is None else int(budget_gib * GIB)
        self._counter: StorageCounter | None = None
        self._peak = 0

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")

    def total_bytes(self) -> int:
        return host_memory().total_bytes

    def free_bytes(self) -> int:
        return host_memory().free_bytes

    def budget_bytes(self) -> int:
        return self._budget

    def live_bytes(self) -> int:
        if self._counter is not None:
            return self._counter.live_bytes
        return sum(storage.nbytes() for storage in existing_storages())

    def reserved_bytes(self) -> int:
        return self.live_bytes()

    def peak_bytes(self) -> int:
        return self._peak if self._counter is None else self._counter.peak_bytes

    def reset_peak(self) -> None:
        self._peak = 0
        if self._counter is not None:
            self._counter.peak_bytes = self._counter.live_bytes

    def release(self) -> None:
        gc.collect()

    @contextmanager
    def enforce(self) -> Iterator[None]:
        if self._counter is not None:
            raise RuntimeError("the budget of this device is enforced already")
        counter = StorageCounter(self._budget)
        counter.adopt_existing()
        self._counter = counter
        try:
            with counter:
                yield
        finally:
            self._peak = max(self._peak, counter.peak_bytes)
            self._counter = None

    def needed_bytes(self, error: BaseException) -> int | None:
        return error.live_bytes + error.asked_bytes if isinstance(error, BudgetExceededError) else None
