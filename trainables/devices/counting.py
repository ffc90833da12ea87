"""A counter of the storages on the CPU, which rejects an allocation that would exceed a budget.

PyTorch's CPU allocator keeps no counters. A dispatch mode sees the result of every operator instead: in forward,
backward (which runs in the calling thread on the CPU), recomputation and optimizer steps. A weak reference to each new
storage reports its end. Memory that an operator needs only while it runs is not seen.
"""

import gc
import math
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from trainables.devices.host import GIB
from trainables.devices.shared import SharedBudget
from trainables.internals import (
    DispatchMode,
    decomposed,
    has_cpu_kernel,
    is_composite,
    makes_storage,
    operator_key,
    storage_address,
    without_dispatch,
)

# Types are compared exactly. isinstance() asks proxies for their class, and subclasses run code of their own. torch's
# subclasses (fake and wrapped tensors, parameters without data yet) hold no memory.
_PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)

# An operator may return nothing new or perhaps a new storage, or it may call other operators that do.
_NOTHING_NEW, _PERHAPS_NEW, _COMPOSITE = range(3)

# A process claims this much more of a shared card than it needs. Other processes know its use to this precision.
_CLAIM_BYTES = 2**20


class BudgetExceededError(torch.OutOfMemoryError):
    """An allocation exceeds the budget, or the memory that the card's other processes leave.

    The message follows that of CUDA's allocator.

    Attributes:
        asked_bytes: size of the rejected allocation.
        live_bytes: bytes that this process held at that time.
        budget_bytes: the most that this process may hold, whatever others hold.
        others_bytes: bytes that other processes held of the same card; 0 if it is not shared.
        total_bytes: the size of the shared card; None if it is not shared.
    """

    def __init__(
        self,
        asked_bytes: int,
        live_bytes: int,
        budget_bytes: int,
        others_bytes: int = 0,
        total_bytes: int | None = None,
    ) -> None:
        super().__init__(asked_bytes, live_bytes, budget_bytes, others_bytes, total_bytes)
        self.asked_bytes = asked_bytes
        self.live_bytes = live_bytes
        self.budget_bytes = budget_bytes
        self.others_bytes = others_bytes
        self.total_bytes = total_bytes

    def __str__(self) -> str:
        allowed, others = self.budget_bytes, ""
        if self.total_bytes is not None:
            allowed = min(allowed, self.total_bytes - self.others_bytes)
            others = f" Other processes hold {_shown(self.others_bytes)} of the card's {_shown(self.total_bytes)}."
        return (
            f"CPU out of memory. Tried to allocate {_shown(self.asked_bytes)}. The budget is"
            f" {_shown(self.budget_bytes)}, of which {_shown(self.live_bytes)} is live and"
            f" {_shown(max(0, allowed - self.live_bytes))} is free.{others}"
        )


class StorageCounter(DispatchMode):
    """Counter of the bytes of CPU storages that the entering thread makes while the mode is entered.

    Args:
        budget_bytes: upper limit of the live bytes; an allocation beyond it raises.
    """

    def __init__(self, budget_bytes: int) -> None:
        super().__init__()
        self.budget_bytes = budget_bytes
        # Live bytes up to this need no further claim.
        self._granted_bytes: float = budget_bytes
        self.live_bytes = 0
        self.peak_bytes = 0
        # Equal references have the same referent while it lives, and are the same object once it is dead.
        self._held: dict[weakref.ref[torch.UntypedStorage], int] = {}
        _COUNTERS.add(self)

    def adopt_existing(self) -> None:
        """Count the storages that live already; reject none."""
        for storage in existing_storages():
            size = storage.nbytes()
            self._held[weakref.ref(storage, self._forget)] = size
            self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # Keyed by the function behind the operator: an operator's own hash is computed in Python.
        key = operator_key(func)
        kind = _KINDS.get(key)
        if kind is None:
            kind = _KINDS[key] = _kind(func)
        if kind == _COMPOSITE:
            with self:
                return decomposed(func, args, kwargs or {})
        result = func(*args, **kwargs) if kwargs else func(*args)
        if kind == _PERHAPS_NEW:
            if type(result) is torch.Tensor:
                self._count(result)
            else:
                for tensor in _tensors(result):
                    self._count(tensor)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        if not tensor.is_cpu:
            return
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError:
            # Sparse tensors keep their values in plain tensors, which are counted themselves.
            return
        held = weakref.ref(storage, self._forget)
        size = storage.nbytes()
        asked = size - self._held.get(held, 0)
        if not asked:
            return
        live = self.live_bytes + asked
        if live > self._granted_bytes:
            self._grant(asked)
            # Storages may have died meanwhile.
            live = self.live_bytes + asked
        self._held[held] = size
        self.live_bytes = live
        if live > self.peak_bytes:
            self.peak_bytes = live

    def _grant(self, asked: int) -> None:
        """Allow ``asked`` more live bytes, or raise."""
        raise BudgetExceededError(asked, self.live_bytes, self.budget_bytes)

    def refuse_nothing(self) -> None:
        """Continue to count, without a budget and without publishing to other processes."""
        self._granted_bytes = math.inf

    def _forget(self, held: "weakref.ref[torch.UntypedStorage]") -> None:
        # References created only for a lookup are not in the dictionary.
        self.live_bytes -= self._held.pop(held, 0)


class SharedStorageCounter(StorageCounter):
    """Counter of storages on a card that other processes share; it claims memory there before it grants it.

    Together the processes therefore take no more than the card, except for what ``adopt_existing`` finds. Each process
    claims 1 MiB ahead and gives back what exceeds 2 MiB. An allocation may therefore be rejected up to 2 MiB too early
    for each other process.

    Args:
        budget_bytes: upper limit of the live bytes, whatever others hold.
        shared: the holdings of the card's processes.
        total_bytes: the size of the card.
    """

    def __init__(self, budget_bytes: int, shared: SharedBudget, total_bytes: int) -> None:
        super().__init__(budget_bytes)
        self._shared = shared
        self._total_bytes = total_bytes
        self._granted_bytes = 0
        # Live bytes below this give a part of the grant back.
        self._low_bytes: float = -math.inf

    def adopt_existing(self) -> None:
        super().adopt_existing()
        self._publish(self.live_bytes)

    def refuse_nothing(self) -> None:
        super().refuse_nothing()
        self._low_bytes = -math.inf

    def _grant(self, asked: int) -> None:
        live = self.live_bytes + asked
        if live <= self.budget_bytes:
            # A storage that dies meanwhile must not give back what is being claimed.
            self._low_bytes = -math.inf
            claimed = self._shared.claim(live, min(live + _CLAIM_BYTES, self.budget_bytes), self._total_bytes)
            self._set_granted(self._granted_bytes if claimed is None else claimed)
            if claimed is not None:
                return
        raise BudgetExceededError(
            asked, self.live_bytes, self.budget_bytes, self._shared.others_bytes(), self._total_bytes
        )

    def _publish(self, held_bytes: int) -> None:
        self._shared.publish(held_bytes)
        self._set_granted(held_bytes)

    def _set_granted(self, granted: float) -> None:
        self._granted_bytes = granted
        self._low_bytes = granted - 2 * _CLAIM_BYTES

    def _forget(self, held: "weakref.ref[torch.UntypedStorage]") -> None:
        self.live_bytes = live = self.live_bytes - self._held.pop(held, 0)
        if live < self._low_bytes:
            self._publish(live + _CLAIM_BYTES)


@contextmanager
def uncounted() -> Iterator[None]:
    """Hide storages made in the block from the counter, such as file contents on their way to a device.

    They lie in the host's memory, which is not the device's, even if the device is the CPU.
    """
    with without_dispatch():
        yield


def existing_storages() -> Iterator[torch.UntypedStorage]:
    """Yield each CPU storage that an ordinary tensor of this process refers to; the garbage collector lists them."""
    seen: set[int] = set()
    for tensor in _existing_tensors():
        if tensor.is_cpu and tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            address = storage_address(storage)
            if address not in seen:
                seen.add(address)
                yield storage


def _existing_tensors() -> Iterator[torch.Tensor]:
    for candidate in gc.get_objects():
        if type(candidate) in _PLAIN_TENSORS:
            yield candidate
            # A gradient may have no Python object before it is accessed.
            if candidate.is_leaf and type(candidate.grad) in _PLAIN_TENSORS:
                yield candidate.grad


_KINDS: dict[Any, int] = {}


def _kind(operator: Any) -> int:
    """Return how the counter must treat an operator."""
    # Without autograd a composite operator arrives whole, and its parts would not be seen.
    if is_composite(operator) and not has_cpu_kernel(operator):
        return _COMPOSITE
    return _PERHAPS_NEW if makes_storage(operator) else _NOTHING_NEW


def _tensors(result: object) -> Iterator[torch.Tensor]:
    if type(result) is torch.Tensor:
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors(part)


def _shown(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 2**20:.2f} MiB"


_COUNTERS: "weakref.WeakSet[StorageCounter]" = weakref.WeakSet()


def _refuse_nothing() -> None:
    for counter in _COUNTERS:
        counter.refuse_nothing()


# A forked process (a worker that pads batches ahead) has its own memory, outside the budget.
os.register_at_fork(after_in_child=_refuse_nothing)
