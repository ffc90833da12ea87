"""Counts the storages that live on the CPU, and refuses the one that would break a budget.

PyTorch's CPU allocator keeps no counters. A dispatch mode sees the result of every operator instead, in forward,
backward (which runs in the calling thread on the CPU), recomputation and optimizer steps alike, and a weak reference to
each new storage tells when it is gone. What an operator needs only while it runs is not seen.
"""

import gc
import math
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

# By exact type: isinstance() asks proxies for their class, and subclasses answer questions with code of their own;
# those of torch (fake and wrapped tensors, parameters without data yet) hold no memory.
_PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)

# What an operator may bring: nothing new, perhaps a new storage, or calls of other operators that do.
_NOTHING_NEW, _PERHAPS_NEW, _COMPOSITE = range(3)
# By their schemas they return what they were given, and yet its storage may be another or a larger one afterwards.
_CHANGE_STORAGE = ("aten::resize_", "aten::resize_as_", "aten::set_", "aten::lift_fresh")


class BudgetExceededError(torch.OutOfMemoryError):
    """An allocation that the budget does not allow. The message follows that of CUDA's allocator."""

    def __init__(self, asked_bytes: int, live_bytes: int, budget_bytes: int) -> None:
        super().__init__(asked_bytes, live_bytes, budget_bytes)
        self.asked_bytes = asked_bytes
        self.live_bytes = live_bytes
        self.budget_bytes = budget_bytes

    def __str__(self) -> str:
        free = max(0, self.budget_bytes - self.live_bytes)
        return (
            f"CPU out of memory. Tried to allocate {_shown(self.asked_bytes)}. The budget is"
            f" {_shown(self.budget_bytes)}, of which {_shown(self.live_bytes)} is live and {_shown(free)} is free."
        )


class StorageCounter(TorchDispatchMode):
    """While entered, follows the bytes of the CPU storages that the entering thread makes.

    Args:
        budget_bytes: no allocation may take the live bytes above this.
    """

    def __init__(self, budget_bytes: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.budget_bytes = budget_bytes
        self.live_bytes = 0
        self.peak_bytes = 0
        # Equal references have the same referent while it lives, and are the same object once it is gone.
        self._held: dict[weakref.ref[torch.UntypedStorage], int] = {}
        _COUNTERS.add(self)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # The default wraps every call for the compiler's sake, which costs more than the counting.
        return False

    def adopt_existing(self) -> None:
        """Count what lives already; nothing is refused."""
        for storage in existing_storages():
            size = storage.nbytes()
            self._held[weakref.ref(storage, self._forget)] = size
            self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # By the function behind the operator: an operator's own hash is computed in Python.
        kind = _KINDS.get(func._op)
        if kind is None:
            kind = _KINDS[func._op] = _kind(func)
        if kind == _COMPOSITE:
            with self:
                return func.decompose(*args, **(kwargs or {}))
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
            # Sparse tensors keep their values in plain ones, which are counted themselves.
            return
        held = weakref.ref(storage, self._forget)
        size = storage.nbytes()
        asked = size - self._held.get(held, 0)
        if not asked:
            return
        live = self.live_bytes + asked
        if live > self.budget_bytes:
            raise BudgetExceededError(asked, self.live_bytes, int(self.budget_bytes))
        self._held[held] = size
        self.live_bytes = live
        if live > self.peak_bytes:
            self.peak_bytes = live

    def _forget(self, held: "weakref.ref[torch.UntypedStorage]") -> None:
        # A reference that was only made to look its storage up is not among those held.
        self.live_bytes -= self._held.pop(held, 0)


@contextmanager
def uncounted() -> Iterator[None]:
    """What is made here is never counted nor refused: file contents on their way to a device, say.

    They lie in the host's memory, which is no more the device's when the device is the CPU.
    """
    with no_dispatch():
        yield


def existing_storages() -> Iterator[torch.UntypedStorage]:
    """Every CPU storage that an ordinary tensor of this process refers to, once; found by the garbage collector."""
    seen: set[int] = set()
    for tensor in _existing_tensors():
        if tensor.is_cpu and tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                yield storage


def _existing_tensors() -> Iterator[torch.Tensor]:
    for candidate in gc.get_objects():
        if type(candidate) in _PLAIN_TENSORS:
            yield candidate
            # A gradient may have no object of its own before it is asked for.
            if candidate.is_leaf and type(candidate.grad) in _PLAIN_TENSORS:
                yield candidate.grad


_KINDS: dict[Any, int] = {}


def _kind(operator: OpOverload) -> int:
    """What the counter has to do for an operator."""
    name = operator.name()
    # Without autograd an operator that is made of others arrives whole, and its parts would not be seen.
    if operator._can_decompose() and not torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU"):
        return _COMPOSITE
    schema = operator._schema
    fresh = any("Tensor" in str(returned.type) and returned.alias_info is None for returned in schema.returns)
    grows = any(argument.is_out for argument in schema.arguments) or name.split(".")[0] in _CHANGE_STORAGE
    return _PERHAPS_NEW if fresh or grows else _NOTHING_NEW


def _tensors(result: object) -> Iterator[torch.Tensor]:
    if type(result) is torch.Tensor:
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors(part)


def _shown(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"


_COUNTERS: "weakref.WeakSet[StorageCounter]" = weakref.WeakSet()


def _refuse_nothing() -> None:
    for counter in _COUNTERS:
        counter.budget_bytes = math.inf


# A forked process (a worker that pads batches ahead) has memory of its own, which is not the budget's business.
os.register_at_fork(after_in_child=_refuse_nothing)
