"""Facts about this machine's devices, as torch and NVIDIA's management library (NVML) report them.

They serve diagnosis and planning. Nothing here starts a trial, and libraries are imported only on use.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

from trainables.devices.host import GIB, host_memory

DeviceKind = Literal["cpu", "cuda"]

# Ampere, the first generation with TF32 and bf16 matrix units.
_AMPERE = (8, 0)


@dataclass(frozen=True)
class TorchDevice:
    """A CUDA device that torch may use; ``total_gib`` is all its memory as CUDA counts it, None if not queried."""

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
    """Torch's version and its view of CUDA.

    ``cuda_build`` is the CUDA version that torch was built for, None in a CPU build. ``cuda_problem`` is torch's
    message if it cannot use CUDA, else empty.
    """

    version: str
    cuda_build: str | None
    cuda_available: bool
    devices: tuple[TorchDevice, ...] = ()
    cuda_problem: str = ""


@dataclass(frozen=True)
class NvmlGpu:
    """A GPU of this machine.

    Attributes:
        total_gib: size of its memory; None, like ``used_gib``, if it shares the host's memory and has none of its own.
        busy_percent: share of the last second or less in which it ran a kernel; None if the driver does not say.
    """

    name: str
    total_gib: float | None
    used_gib: float | None
    busy_percent: int | None = None


@dataclass(frozen=True)
class NvmlFacts:
    """The driver's GPUs, whether or not this process may use them; ``absent`` says why there is no driver."""

    driver: str | None
    gpus: tuple[NvmlGpu, ...] = ()
    absent: str = ""


@dataclass(frozen=True)
class TrialDevice:
    """The device that trials run on, as far as a prediction needs it.

    ``bf16`` is whether the device has bf16 matrix units. ``name`` is the card's name, or ``cpu``.
    """

    kind: DeviceKind
    total_gib: float
    bf16: bool
    name: str = "cpu"

    @property
    def auto_precision(self) -> str:
        """The precision that ``train.precision: auto`` selects on this device."""
        return "bf16" if self.bf16 else "fp32"


def trial_device(device_gib: float | None = None, *, use_cuda: bool = True) -> TrialDevice:
    """Return the device that trials on this machine run on: the smallest CUDA card, or the CPU without a card.

    Args:
        device_gib: the memory that trials share: an upper limit for a card, or the size of the card simulated on the
            CPU. None uses a card's real size, or on the CPU all memory of the machine or container.
        use_cuda: False if trials are given no card.
    """
    cards = torch_facts().devices if use_cuda else ()
    totals = [card.total_gib for card in cards if card.total_gib is not None]
    if totals:
        # A trial may run on any card.
        total_gib = min([*totals, device_gib] if device_gib else totals)
        return TrialDevice("cuda", total_gib, all(card.bf16 for card in cards), cards[0].name)
    return TrialDevice("cpu", device_gib or host_memory().total_bytes / GIB, bf16=False)


def torch_facts() -> TorchFacts:
    """Return torch's version and devices.

    Raises:
        ImportError: torch is missing or cannot be loaded.
        OSError: a library that torch needs cannot be loaded.
    """
    import torch

    # torch reports an old driver or a broken card by a warning, and then returns "not available".
    with warnings.catch_warnings(record=True) as caught:
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
        cuda_problem="" if available or not caught else str(caught[0].message).splitlines()[0],
    )


def nvml_facts() -> NvmlFacts:
    """Return the driver's version and GPUs; this needs neither torch nor CUDA."""
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
        gpus = tuple(
            NvmlGpu(str(pynvml.nvmlDeviceGetName(handle)), *_sizes_gib(pynvml, handle), _busy_percent(pynvml, handle))
            for handle in handles
        )
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


def _busy_percent(pynvml: Any, handle: Any) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError_NotSupported:
        return None
