"""Recognition of errors that mean exhausted memory or a broken device, and the record kept of a caught error."""

from dataclasses import dataclass

import torch

from trainables.devices.device import Cause, MemoryDevice

# Failed allocations that torch reports as a plain error: cuBLAS's and cuDNN's by their status names, CUDA's own outside
# torch's allocator, and the host's.
_PLAIN = (RuntimeError, torch.AcceleratorError)
_MESSAGES = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "DefaultCPUAllocator: can't allocate memory",
)
# cuBLAS reports errors under CUDA's name, cuDNN under its own.
_DEVICE_MESSAGES = ("CUDA error", "device-side assert", "cuDNN error")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that device memory ran out.

    ``torch.OutOfMemoryError`` shows it by its type. Other errors count only if they are torch's plain ones with the
    message of an allocator that has no error type of its own. A text alone proves nothing.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryExhaustedError):
        return True
    return type(error) in _PLAIN and any(message in str(error) for message in _MESSAGES)


def is_device_error(error: BaseException) -> bool:
    """Return whether the error may have broken this process's device context for good.

    No further trial should run in such a process. An out-of-memory error is no device error.

    ``torch.AcceleratorError`` shows it by its type, a plain ``RuntimeError`` by a message of CUDA or its libraries.
    """
    if is_out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return type(error) is RuntimeError and any(message in str(error) for message in _DEVICE_MESSAGES)


@dataclass(frozen=True)
class OutOfMemory:
    """Figures and text of a caught error; the error itself would keep the tensors of the failed frames alive.

    Attributes:
        needed_bytes: memory held and asked for, at least; None if the error does not name it.
        allowed_bytes: the budget.
    """

    message: str
    needed_bytes: int | None
    allowed_bytes: int
    cause: Cause

    @classmethod
    def of(cls, error: Exception, device: MemoryDevice) -> "OutOfMemory | None":
        """Read an error; None if it means something else. Call this in the ``except`` block, then leave the block."""
        if isinstance(error, MemoryExhaustedError):
            return error.failure
        if not is_out_of_memory(error):
            return None
        message = (str(error).splitlines() or [type(error).__name__])[0]
        return cls(message, device.needed_bytes(error), device.budget_bytes(), device.cause_of(error))


class MemoryExhaustedError(RuntimeError):
    """Memory ran out and no remedy was left. The error references nothing of the failed frames."""

    def __init__(self, failure: OutOfMemory) -> None:
        super().__init__(failure.message)
        self.failure = failure
