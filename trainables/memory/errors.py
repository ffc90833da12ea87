"""Which exceptions mean that memory ran out, and which that the device's context is broken."""

import torch

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
    if isinstance(error, torch.OutOfMemoryError):
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
