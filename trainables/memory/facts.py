"""Facts about this machine's devices, as torch and as NVIDIA's management library (NVML) see them.

For diagnosis only: nothing here starts a trial, and nothing is imported before it is asked for.
"""

import warnings
from dataclasses import dataclass
from typing import Any

GIB = 2**30

# Ampere, the first generation with TF32 and bf16 matrix units.
_AMPERE = (8, 0)


@dataclass(frozen=True)
class TorchDevice:
    """A CUDA device that torch may use."""

    name: str
    capability: tuple[int, int]

    @property
    def tf32(self) -> bool:
        return self.capability >= _AMPERE

    @property
    def bf16(self) -> bool:
        return self.capability >= _AMPERE


@dataclass(frozen=True)
class TorchFacts:
    """``cuda_build`` is the CUDA version that torch was built for, None in a CPU build; ``cuda_problem`` is what torch
    said when it could not use CUDA, empty if nothing."""

    version: str
    cuda_build: str | None
    cuda_available: bool
    devices: tuple[TorchDevice, ...] = ()
    cuda_problem: str = ""


@dataclass(frozen=True)
class NvmlGpu:
    """A GPU of this machine. Sizes are None on those that share the host's memory and count none of their own."""

    name: str
    total_gib: float | None
    used_gib: float | None


@dataclass(frozen=True)
class NvmlFacts:
    """What the driver knows, whatever this process may see of it; ``absent`` says why there is no driver, if so."""

    driver: str | None
    gpus: tuple[NvmlGpu, ...] = ()
    absent: str = ""


def torch_facts() -> TorchFacts:
    """Ask torch.

    Raises:
        ImportError: torch is missing or cannot be loaded.
        OSError: a library that torch needs cannot be loaded.
    """
    import torch

    # torch tells an old driver or a broken card by a warning, and then says "not available".
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    devices = range(torch.cuda.device_count()) if available else range(0)
    return TorchFacts(
        version=torch.__version__,
        cuda_build=torch.version.cuda,
        cuda_available=available,
        devices=tuple(
            TorchDevice(torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)) for index in devices
        ),
        cuda_problem="" if available or not told else str(told[0].message).splitlines()[0],
    )


def nvml_facts() -> NvmlFacts:
    """Ask the driver; needs neither torch nor CUDA."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError as error:
        return NvmlFacts(driver=None, absent=str(error))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return NvmlFacts(driver=None, absent=str(error))
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        gpus = tuple(NvmlGpu(str(pynvml.nvmlDeviceGetName(handle)), *_sizes_gib(pynvml, handle)) for handle in handles)
        return NvmlFacts(driver=str(pynvml.nvmlSystemGetDriverVersion()), gpus=gpus)
    except pynvml.NVMLError as error:
        return NvmlFacts(driver=None, absent=str(error))
    finally:
        pynvml.nvmlShutdown()


def _sizes_gib(pynvml: Any, handle: Any) -> tuple[float | None, float | None]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError_NotSupported:
        return None, None
    return memory.total / GIB, memory.used / GIB
