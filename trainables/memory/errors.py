"""Which exceptions mean that memory ran out."""

import torch

# cuBLAS and cuDNN report a failed allocation of their own as a plain RuntimeError; these are their status names.
_ALLOCATION_STATUSES = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that device memory ran out.

    ``torch.OutOfMemoryError`` says so by its type. A RuntimeError counts only with the status of a library that has
    no type of its own for it; a text alone proves nothing.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(status in str(error) for status in _ALLOCATION_STATUSES)
