"""Facts about this machine's devices, as torch and as NVIDIA's management library (NVML) see them.

For diagnosis and planning: nothing here starts a trial, and nothing is imported before it is asked for.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

from trainables.memory.host import host_memory

DeviceKind = Literal["cpu", "cuda"]

GIB = 2**30

# Ampere, the first generation with TF32 and bf16 matrix units.
_AMPERE = (8, 0)


@dataclass(frozen=True)
class TorchDevice:
    """A CUDA device that torch may use. ``total_gib`` is all its memory as CUDA counts it, where it was asked."""

    name: str
    capability: tuple[int, int]
    total_gib: float | None = None

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


@dataclass(frozen=True)
class TrialDevice:
    """What trials run on, as far as a prediction must know. ``bf16``: it has matrix units for it. ``name`` is the
    card's, or ``cpu``."""

    kind: DeviceKind
    total_gib: float
    bf16: bool
    name: str = "cpu"

    @property
    def auto_precision(self) -> str:
        """What ``train.precision: auto`` becomes there."""
        return "bf16" if self.bf16 else "fp32"


def trial_device(device_gib: float | None = None, *, use_cuda: bool = True) -> TrialDevice:
    """The device that trials on this machine run on: the smallest of its CUDA cards, without any the CPU.

    Args:
        device_gib: the memory that trials share: the most of a card, or on the CPU the size of the card that it is to
            stand for. None takes a card as it is, on the CPU all memory of the machine or container.
        use_cuda: False where trials are given no card.
    """
    cards = torch_facts().devices if use_cuda else ()
    totals = [card.total_gib for card in cards if card.total_gib is not None]
    if totals:
        # A trial may land on any of them.
        total_gib = min([*totals, device_gib] if device_gib else totals)
        return TrialDevice("cuda", total_gib, all(card.bf16 for card in cards), cards[0].name)
    return TrialDevice("cpu", device_gib or host_memory().total_bytes / GIB, bf16=False)


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
            TorchDevice(
                torch.cuda.get_device_name(index),
                torch.cuda.get_device_capability(index),
                torch.cuda.get_device_properties(index).total_memory / GIB,
            )
            for index in devices
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
