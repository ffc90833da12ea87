"""A CUDA device: torch's counters, NVML for memory that torch does not see, and an enforced share of the card."""

import gc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from trainables.devices.device import Cause, Measured, entitlement
from trainables.devices.host import GIB
from trainables.internals import clear_cublas_workspaces

MIB = 2**20

# Memory that no trace sees, measured on an H100 (driver 580, CUDA 13.0): scripts/bench/results/gpu_check.txt.
CONTEXT_BYTES = 768 * MIB
"""The context with the libraries' handles and kernels, which torch does not count; smaller on smaller cards."""

_LOADED_LATER_BYTES = 150 * MIB
"""The part of the context that the first passes add: handles, and kernels on first use."""

_WORKSPACE_BYTES = 66 * MIB
"""cuBLAS's workspaces, one for forward and one for backward passes, 8 MiB each before Hopper.

The allocator counts them as tensors.
"""

_PAGE_SLACK_BYTES = 96 * MIB
"""Growing segments give memory back by the page, so a limit must leave room for partly used pages."""

ALLOCATOR_OVERHEAD_BYTES = _WORKSPACE_BYTES + _PAGE_SLACK_BYTES
"""Memory that the allocator takes beside the tensors of a trace."""

# The second is the older name of the first.
_ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")

_ASKED = re.compile(r"Tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}


@dataclass(frozen=True)
class Holdings:
    """Memory of the device that torch's allocator does not hold, in bytes.

    Attributes:
        beyond_torch: memory of this process that torch's counters do not show: context, workspaces.
        others: memory of other processes.
    """

    beyond_torch: int
    others: int


def holdings(
    *, total: int, free: int, reserved: int, processes: Mapping[int, int | None] | None, own_pid: int
) -> Holdings:
    """Separate this process's memory from that of others.

    Args:
        free: free bytes of the whole device, the same for every process.
        reserved: bytes that torch's allocator has taken.
        processes: bytes per process id as NVML reports them, None for a process it cannot size; None without NVML. In a
            container NVML reports process ids of the host, so this process may be missing.
    """
    taken = max(0, total - free - reserved)
    own_bytes = (processes or {}).get(own_pid)
    beyond = min(taken, CONTEXT_BYTES if own_bytes is None else max(0, own_bytes - reserved))
    return Holdings(beyond, taken - beyond)


def nvml_uuid(visible: str | None, index: int, torch_uuid: str | None, known: Sequence[str]) -> str | None:
    """Return NVML's UUID for the device that torch calls ``index``; None if it cannot be determined.

    Args:
        visible: the value of ``CUDA_VISIBLE_DEVICES``, whose entries are indices or (abbreviated) UUIDs of cards or of
            MIG slices; None if the variable is not set.
        torch_uuid: the card's UUID by torch, without its prefix. CUDA may number cards differently from NVML, so the
            UUID takes precedence over an index.
        known: the UUIDs of all cards, in NVML's order.
    """
    entries = [entry.strip() for entry in visible.split(",")] if visible is not None else []
    entry = entries[index] if index < len(entries) else ""
    if entry.startswith("MIG-"):
        return entry
    if f"GPU-{torch_uuid}" in known:
        return f"GPU-{torch_uuid}"
    if entry.startswith("GPU-"):
        matching = [uuid for uuid in known if uuid.startswith(entry)]
        return matching[0] if len(matching) == 1 else None
    number = int(entry) if entry.isdecimal() else index if visible is None else -1
    return known[number] if 0 <= number < len(known) else None


def asked_bytes(message: str) -> int | None:
    """Return the size of the failed allocation in an out-of-memory message; None if the message does not name it."""
    match = _ASKED.search(message)
    return None if match is None else int(float(match[1]) * _UNITS[match[2]])


def grow_segments() -> None:
    """Make torch's allocator use segments that grow and shrink by pages; call this before its first allocation.

    In segments of fixed size, larger tensors cannot use the memory between live tensors. Up to a quarter of the memory
    of evaluation passes was lost that way. A setting of the user takes precedence.
    """
    if not any(name in os.environ for name in _ALLOCATOR_SETTINGS):
        os.environ[_ALLOCATOR_SETTINGS[0]] = "expandable_segments:True"


def free_on_card(*, total: int, real_total: int, real_free: int, others: int) -> int:
    """Return the free memory of a card that may be treated as smaller than it is."""
    own_bytes = real_total - real_free - others
    return max(0, min(real_free, total - own_bytes - others))


def out_of_memory_cause(
    *, asked: int | None, allocated: int, reserved: int, beyond_torch: int, entitled: int, allowed: int
) -> Cause:
    """Return why an allocation failed, from the memory held at that time.

    Args:
        asked: bytes of the failed allocation; None if the error does not name them.
        allocated: bytes of live tensors.
        reserved: bytes that torch's allocator had taken, live or not. It gives back what it can before it fails.
        entitled: the most that this process may hold, whatever others hold.
        allowed: the most that this process could hold beside the others' holdings.
    """
    if asked is None:
        return "own"
    needed = allocated + beyond_torch + asked
    if needed > entitled:
        return "own"
    if needed > allowed:
        return "neighbour"
    return "fragmentation" if reserved + beyond_torch + asked > allowed else "own"


def allocator_fraction(budget: int, beyond_torch: int, total: int) -> float:
    """Return the part of the card that torch's allocator may take so that the process stays within its budget."""
    return min(1.0, max(0.0, (budget - beyond_torch) / total))


class CudaDevice:
    """The current CUDA device of this process.

    Args:
        budget_gib: the most that this process may hold; None allows its share of the card.
        share: this process's part of the card, 0 < share ≤ 1.
        device_gib: treat the card as one of this size if it is larger; None uses its real size.
    """

    def __init__(self, budget_gib: float | None = None, *, share: float = 1.0, device_gib: float | None = None) -> None:
        grow_segments()
        self._index = torch.cuda.current_device()
        self._most = None if device_gib is None else int(device_gib * GIB)
        self._budget_gib = budget_gib
        self._share = share
        self._enforced: int | None = None
        # An earlier peak that torch's counter lost, because that counter can only be reset.
        self._earlier_peak = 0
        self._peak_is_stale = False
        self._nvml = _NvmlCard.of(self._index)
        self._grows = _segments_grow(self.torch_device)

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", self._index)

    def total_bytes(self) -> int:
        total = self._real_memory()[1]
        return total if self._most is None else min(total, self._most)

    def free_bytes(self) -> int:
        free, total = self._real_memory()
        if self._most is None:
            return free
        return free_on_card(total=self.total_bytes(), real_total=total, real_free=free, others=self.others_bytes())

    def holdings(self) -> Holdings:
        """Return the memory of the device that torch's allocator does not hold."""
        free, total = self._real_memory()
        return holdings(
            total=total,
            free=free,
            reserved=self.reserved_bytes(),
            processes=self._nvml.processes() if self._nvml else None,
            own_pid=os.getpid(),
        )

    def others_bytes(self) -> int:
        return self.holdings().others

    def entitled_bytes(self) -> int:
        return entitlement(self.total_bytes(), self._share, self._budget_gib)

    def budget_bytes(self) -> int:
        if self._enforced is not None:
            return self._enforced
        return max(0, min(self.entitled_bytes(), self.total_bytes() - self.others_bytes()))

    def live_bytes(self) -> int:
        return torch.cuda.memory_allocated(self._index)

    def reserved_bytes(self) -> int:
        return torch.cuda.memory_reserved(self._index)

    def overhead_bytes(self) -> int:
        held = self.holdings().beyond_torch
        return min(CONTEXT_BYTES, held + _LOADED_LATER_BYTES) + ALLOCATOR_OVERHEAD_BYTES

    def peak_bytes(self) -> int:
        # Free memory in segments that shrink is given back before memory runs out, so it is not needed.
        if self._grows:
            of_torch = torch.cuda.max_memory_allocated(self._index)
        else:
            of_torch = torch.cuda.max_memory_reserved(self._index)
        return max(self._earlier_peak, of_torch + self.holdings().beyond_torch)

    def reset_peak(self) -> None:
        self._earlier_peak = 0
        self._peak_is_stale = False
        torch.cuda.reset_peak_memory_stats(self._index)

    @contextmanager
    def measured(self) -> Iterator[Measured]:
        self.release()
        before, measured, failed = self.peak_bytes(), Measured(), True
        self.reset_peak()
        try:
            yield measured
            failed = False
        finally:
            measured.peak_bytes = self.peak_bytes()
            torch.cuda.empty_cache()
            self.reset_peak()
            self._earlier_peak = before
            # The traceback still holds the block's tensors, which do not belong to the outer peak.
            self._peak_is_stale = failed

    def release(self) -> None:
        gc.collect()
        # The next pass makes cuBLAS's workspaces anew; they are no leak of this pass.
        clear_cublas_workspaces()
        torch.cuda.empty_cache()
        if self._peak_is_stale:
            self._peak_is_stale = False
            torch.cuda.reset_peak_memory_stats(self._index)

    @contextmanager
    def enforce(self) -> Iterator[None]:
        if self._enforced is not None:
            raise RuntimeError("the budget of this device is enforced already")
        # The first allocation makes the context, which then counts as held beyond the allocator.
        torch.zeros(1, device=self.torch_device)
        self._enforced = budget = self.budget_bytes()
        # The fraction refers to the card's real size.
        fraction = allocator_fraction(budget, self.holdings().beyond_torch, self._real_memory()[1])
        torch.cuda.set_per_process_memory_fraction(fraction, self._index)
        try:
            yield
        finally:
            self._enforced = None
            torch.cuda.set_per_process_memory_fraction(1.0, self._index)

    def needed_bytes(self, error: BaseException) -> int | None:
        asked = _asked(error)
        return None if asked is None else self.live_bytes() + self.holdings().beyond_torch + asked

    def cause_of(self, error: BaseException) -> Cause:
        held = self.holdings()
        left = self.total_bytes() - held.others
        return out_of_memory_cause(
            asked=_asked(error),
            # Partly used pages are no fault of other processes.
            allocated=self.live_bytes() + (_PAGE_SLACK_BYTES if self._grows else 0),
            reserved=self.reserved_bytes(),
            beyond_torch=held.beyond_torch,
            entitled=self.entitled_bytes(),
            allowed=left if self._enforced is None else min(left, self._enforced),
        )

    def _real_memory(self) -> tuple[int, int]:
        """Return the free and total bytes of the real card."""
        free, total = torch.cuda.mem_get_info(self._index)
        return int(free), int(total)


def _asked(error: BaseException) -> int | None:
    return asked_bytes(str(error)) if isinstance(error, torch.OutOfMemoryError) else None


def _segments_grow(device: torch.device) -> bool:
    """Return whether the allocator's segments can grow; not every platform supports it."""
    held = torch.zeros(1, device=device)
    grows = any(segment.get("is_expandable", False) for segment in torch.cuda.memory_snapshot())
    del held
    return grows


class _NvmlCard:
    """One card, or one slice of a card, as NVML reports it. NVML stays open for the life of the process."""

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._pynvml = pynvml
        self._handle = handle

    @classmethod
    def of(cls, index: int) -> "_NvmlCard | None":
        """Return the device that torch calls ``index``; None if NVML is absent or does not know it."""
        try:
            import pynvml  # type: ignore[import-untyped]
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            cards = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
            uuid = nvml_uuid(
                os.environ.get("CUDA_VISIBLE_DEVICES"),
                index,
                str(torch.cuda.get_device_properties(index).uuid),
                [str(pynvml.nvmlDeviceGetUUID(card)) for card in cards],
            )
            return None if uuid is None else cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except pynvml.NVMLError:
            return None

    def processes(self) -> dict[int, int | None] | None:
        """Return bytes per process id, None for a process that NVML cannot size; None if NVML reports no processes."""
        try:
            running = self._pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._pynvml.NVMLError:
            return None
        return {process.pid: process.usedGpuMemory for process in running}
