"""Which exceptions mean that memory ran out, which that the device is broken, and what is kept of a caught one."""

from dataclasses import dataclass

import torch

from trainables.memory.device import Cause, MemoryDevice

# Failed allocations that torch reports as a plain error: those of cuBLAS and cuDNN under their status names, CUDA's own
# outside torch's allocator, and the host's.
_PLAIN = (RuntimeError, torch.AcceleratorError)
_MESSAGES = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "DefaultCPUAllocator: can't allocate memory",
)
# cuBLAS reports under CUDA's name, cuDNN under its own.
_DEVICE_MESSAGES = ("CUDA error", "device-side assert", "cuDNN error")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that device memory ran out.

    ``torch.OutOfMemoryError`` says so by its type. Of other errors only torch's plain ones count, and those only with
    the message of an allocator that has no type of its own for it: a text alone proves nothing.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryExhaustedError):
        return True
    return type(error) in _PLAIN and any(message in str(error) for message in _MESSAGES)


def is_device_error(error: BaseException) -> bool:
    """Whether the error means that this process's device context may be broken for good, so that no trial should
    run there any more. Running out of memory is none.

    ``torch.AcceleratorError`` says so by its type, a plain ``RuntimeError`` by a message of CUDA or its libraries.
    """
    if is_out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return type(error) is RuntimeError and any(message in str(error) for message in _DEVICE_MESSAGES)


@dataclass(frozen=True)
class OutOfMemory:
    """Figures and text of a caught error: the error itself keeps the tensors of the failed frames alive.

    Attributes:
        needed_bytes: what was held and asked for, at least; None where the error does not tell.
        allowed_bytes: the budget.
    """

    message: str
    needed_bytes: int | None
    allowed_bytes: int
    cause: Cause

    @classmethod
    def of(cls, error: Exception, device: MemoryDevice) -> "OutOfMemory | None":
        """Read an error; None where it means something else. Call it in the ``except`` block, then leave that."""
        if isinstance(error, MemoryExhaustedError):
            return error.failure
        if not is_out_of_memory(error):
            return None
        message = (str(error).splitlines() or [type(error).__name__])[0]
        return cls(message, device.needed_bytes(error), device.budget_bytes(), device.cause_of(error))


class MemoryExhaustedError(RuntimeError):
    """Memory ran out, and no remedy was left. Holds nothing of the failed frames."""

    def __init__(self, failure: OutOfMemory) -> None:
        super().__init__(failure.message)
        self.failure = failure
