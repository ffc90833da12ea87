"""The CPU as a memory device: tensors are counted, and limited by a budget and by what other processes leave."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.devices.counting import (
    BudgetExceededError,
    SharedStorageCounter,
    StorageCounter,
    existing_storages,
    uncounted,
)
from trainables.devices.device import Cause, Measured, entitlement
from trainables.devices.host import GIB, host_memory
from trainables.devices.shared import SharedBudget


class CpuDevice:
    """Host memory, or a card simulated in it.

    Under ``enforce`` every storage is counted; otherwise the garbage collector finds the storages.

    Args:
        budget_gib: the most that live tensors may take; None allows the share of the card, or of all memory of the
            machine or container.
        share: this process's part of the memory, 0 < share ≤ 1.
        device_gib: the size of the card simulated in host memory; None uses all host memory without a card.
        shared: the holdings of the card's processes; None gives the card to this process alone. Other processes see
            what this process holds under ``enforce``, and what it held at the end or at a later ``release``.
    """

    def __init__(
        self,
        budget_gib: float | None = None,
        *,
        share: float = 1.0,
        device_gib: float | None = None,
        shared: SharedBudget | None = None,
    ) -> None:
        host = host_memory().total_bytes
        self._total = host if device_gib is None else min(host, int(device_gib * GIB))
        self._entitled = entitlement(self._total, share, budget_gib)
        self._shared = shared
        self._counter: StorageCounter | None = None
        # The peak of earlier enforcements, and the outer peak set aside during a measured block.
        self._earlier_peak = 0

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")

    def total_bytes(self) -> int:
        return self._total

    def free_bytes(self) -> int:
        own = self.live_bytes()
        if self._shared is not None:
            return max(0, self._total - own - self._shared.others_bytes())
        return max(0, min(host_memory().free_bytes, self._total - own))

    def others_bytes(self) -> int:
        return 0 if self._shared is None else self._shared.others_bytes()

    def entitled_bytes(self) -> int:
        return self._entitled

    def budget_bytes(self) -> int:
        return max(0, min(self._entitled, self._total - self.others_bytes()))

    def live_bytes(self) -> int:
        if self._counter is not None:
            return self._counter.live_bytes
        return sum(storage.nbytes() for storage in existing_storages())

    def reserved_bytes(self) -> int:
        return self.live_bytes()

    def overhead_bytes(self) -> int:
        return 0

    def peak_bytes(self) -> int:
        return self._earlier_peak if self._counter is None else max(self._earlier_peak, self._counter.peak_bytes)

    def reset_peak(self) -> None:
        self._earlier_peak = 0
        if self._counter is not None:
            self._counter.peak_bytes = self._counter.live_bytes

    @contextmanager
    def measured(self) -> Iterator[Measured]:
        self.release()
        before, measured, left_behind = self.peak_bytes(), Measured(), 0
        self.reset_peak()
        try:
            yield measured
            left_behind = 0 if self._counter is None else self._counter.live_bytes
        finally:
            measured.peak_bytes = self.peak_bytes()
            self._earlier_peak = before
            if self._counter is not None:
                self._counter.peak_bytes = left_behind

    def release(self) -> None:
        _forget_failed_backward()
        gc.collect()
        if self._shared is not None and self._counter is None:
            self._shared.publish(self.live_bytes())

    @contextmanager
    def enforce(self) -> Iterator[None]:
        if self._counter is not None:
            raise RuntimeError("the budget of this device is enforced already")
        counter = self._new_counter()
        counter.adopt_existing()
        self._counter = counter
        try:
            with counter:
                yield
        finally:
            self._earlier_peak = max(self._earlier_peak, counter.peak_bytes)
            self._counter = None
            counter.refuse_nothing()
            if self._shared is not None:
                self._shared.publish(counter.live_bytes)

    def needed_bytes(self, error: BaseException) -> int | None:
        return error.live_bytes + error.asked_bytes if isinstance(error, BudgetExceededError) else None

    def cause_of(self, error: BaseException) -> Cause:
        needed = self.needed_bytes(error)
        return "own" if needed is None or needed > self._entitled else "neighbour"

    def _new_counter(self) -> StorageCounter:
        if self._shared is None:
            return StorageCounter(self._entitled)
        return SharedStorageCounter(self._entitled, self._shared, self._total)


def _forget_failed_backward() -> None:
    """Release what this thread's failed backward pass left waiting: a part of its graph, with all saved tensors.

    Autograd discards it only when the thread's next backward pass begins.
    """
    with uncounted(), torch.inference_mode(False), torch.enable_grad():
        torch.zeros((), requires_grad=True).mul(1.0).backward()
