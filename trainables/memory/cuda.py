"""A CUDA device: torch's counters, NVML for what torch does not see, and a share of the card that is enforced."""

import gc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from trainables.memory.device import GIB

# Taken where NVML cannot tell: a context takes 0.3 to 0.6 GiB, a workspace of cuBLAS some MiB.
_ASSUMED_BEYOND_TORCH = GIB // 2

_ASKED = re.compile(r"Tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}


@dataclass(frozen=True)
class Holdings:
    """Who holds memory of the device beside torch's allocator, in bytes.

    Attributes:
        beyond_torch: what this process holds there that torch's counters do not show: context, workspaces.
        others: what other processes hold.
    """

    beyond_torch: int
    others: int


def holdings(
    *, total: int, free: int, reserved: int, processes: Mapping[int, int | None] | None, own_pid: int
) -> Holdings:
    """Tell this process's memory from that of others.

    Args:
        free: of the whole device, whoever asks.
        reserved: what torch's allocator has taken.
        processes: bytes per process id as NVML knows them, None for those it cannot size; None without NVML. In a
            container NVML knows processes by ids of the host, so this one may not be found.
    """
    taken = max(0, total - free - reserved)
    own = (processes or {}).get(own_pid)
    beyond = min(taken, _ASSUMED_BEYOND_TORCH if own is None else max(0, own - reserved))
    return Holdings(beyond, taken - beyond)


def nvml_uuid(visible: str | None, index: int, torch_uuid: str | None, known: Sequence[str]) -> str | None:
    """By which UUID NVML knows the device that torch calls ``index``; None where that cannot be said.

    Args:
        visible: the value of ``CUDA_VISIBLE_DEVICES``, whose entries are indices or (abbreviated) UUIDs of cards or
            of MIG slices; None if it is not set.
        torch_uuid: the card's UUID by torch, without its prefix. CUDA may number cards otherwise than NVML does, so
            it is trusted before an index.
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
    """How much the failed allocation of an out-of-memory message wanted; None if it does not say."""
    found = _ASKED.search(message)
    return None if found is None else int(float(found[1]) * _UNITS[found[2]])


def allocator_fraction(budget: int, beyond_torch: int, total: int) -> float:
    """The part of the card that torch's allocator may take, so that with what lies beyond it the budget is kept."""
    return min(1.0, max(0.0, (budget - beyond_torch) / total))


class CudaDevice:
    """The current CUDA device of this process.

    Args:
        budget_gib: the most that this process may hold; None allows its share of the card.
        share: the part of the card that is this process's, 0 < share ≤ 1.
    """

    def __init__(self, budget_gib: float | None = None, share: float = 1.0) -> None:
        self._index = torch.cuda.current_device()
        self._asked_budget = None if budget_gib is None else int(budget_gib * GIB)
        self._share = share
        self._enforced: int | None = None
        self._nvml = _NvmlCard.of(self._index)

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", self._index)

    def total_bytes(self) -> int:
        return int(torch.cuda.mem_get_info(self._index)[1])

    def free_bytes(self) -> int:
        return int(torch.cuda.mem_get_info(self._index)[0])

    def holdings(self) -> Holdings:
        """Who holds memory here beside torch's allocator."""
        return holdings(
            total=self.total_bytes(),
            free=self.free_bytes(),
            reserved=self.reserved_bytes(),
            processes=self._nvml.processes() if self._nvml else None,
            own_pid=os.getpid(),
        )

    def budget_bytes(self) -> int:
        if self._enforced is not None:
            return self._enforced
        total = self.total_bytes()
        wanted = int(self._share * total) if self._asked_budget is None else self._asked_budget
        return max(0, min(wanted, total - self.holdings().others))

    def live_bytes(self) -> int:
        return torch.cuda.memory_allocated(self._index)

    def reserved_bytes(self) -> int:
        return torch.cuda.memory_reserved(self._index)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_reserved(self._index) + self.holdings().beyond_torch

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._index)

    def release(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    @contextmanager
    def enforce(self) -> Iterator[None]:
        if self._enforced is not None:
            raise RuntimeError("the budget of this device is enforced already")
        # The allocator makes the context, which then counts as held beyond it.
        torch.zeros(1, device=self.torch_device)
        self._enforced = budget = self.budget_bytes()
        fraction = allocator_fraction(budget, self.holdings().beyond_torch, self.total_bytes())
        torch.cuda.set_per_process_memory_fraction(fraction, self._index)
        try:
            yield
        finally:
            self._enforced = None
            torch.cuda.set_per_process_memory_fraction(1.0, self._index)

    def needed_bytes(self, error: BaseException) -> int | None:
        asked = asked_bytes(str(error)) if isinstance(error, torch.OutOfMemoryError) else None
        return None if asked is None else self.live_bytes() + self.holdings().beyond_torch + asked


class _NvmlCard:
    """One card, or one slice of one, as NVML knows it. NVML stays open for the life of the process."""

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._pynvml = pynvml
        self._handle = handle

    @classmethod
    def of(cls, index: int) -> "_NvmlCard | None":
        """The device that torch calls ``index``; None where NVML is absent or does not know it."""
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
        """Bytes per process id, None for those it cannot size; None if it does not tell at all."""
        try:
            running = self._pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._pynvml.NVMLError:
            return None
        return {process.pid: process.usedGpuMemory for process in running}
