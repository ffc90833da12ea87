"""The devices a trial runs on, by what memory they count: a narrow protocol and one class per kind."""

import gc
from typing import Protocol

import torch

GIB = 2**30

_PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)


class MemoryDevice(Protocol):
    """A device and its memory as seen from this process."""

    @property
    def torch_device(self) -> torch.device: ...

    def live_bytes(self) -> int:
        """Bytes of the tensors that live on the device now."""
        ...

    def reset_peak(self) -> None:
        """Start counting the peak anew."""
        ...

    def peak_gib(self) -> float | None:
        """Largest number of bytes held since ``reset_peak`` in GiB, or None where the device does not count it."""
        ...

    def release(self) -> None:
        """Give back what nothing refers to any more. Call it outside ``except`` blocks: tracebacks hold tensors."""
        ...


class CpuDevice:
    """Host memory. Live tensors are found through the garbage collector; there is no counter of a peak."""

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")

    def live_bytes(self) -> int:
        storages: dict[int, int] = {}
        for candidate in gc.get_objects():
            # By exact type: isinstance() asks proxies for their class, and subclasses answer questions with code of
            # their own; those of torch (fake and wrapped tensors, parameters without data yet) hold no memory.
            if type(candidate) not in _PLAIN_TENSORS:
                continue
            if candidate.device.type == "cpu" and candidate.layout is torch.strided:
                storage = candidate.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
        return sum(storages.values())

    def reset_peak(self) -> None:
        """Nothing is counted, so there is nothing to reset."""

    def peak_gib(self) -> float | None:
        return None

    def release(self) -> None:
        gc.collect()


class CudaDevice:
    """The current CUDA device, by torch's allocator."""

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device())

    def live_bytes(self) -> int:
        return torch.cuda.memory_allocated()

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        return torch.cuda.max_memory_reserved() / GIB

    def release(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()


def device_name(device: torch.device) -> str:
    """The card's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def current_device() -> MemoryDevice:
    """The first CUDA device this process may see, else the CPU."""
    return CudaDevice() if torch.cuda.is_available() else CpuDevice()
