"""Errors that mean that memory ran out."""

from collections.abc import Callable

import pytest
import torch

from trainables.devices.errors import is_device_error, is_out_of_memory
from trainables.models.checkpoint import ModelLoadError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("whatever it says"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("out of memory"), False),
        (ValueError("CUDA out of memory"), False),
        (ModelLoadError("model 'x': CUDA out of memory"), False),
        (MemoryError("Unable to allocate 8 GiB for an array"), False),
        (KeyboardInterrupt("CUDA out of memory"), False),
    ],
    ids=lambda value: f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value),
)
def test_the_type_decides_or_the_message_of_an_allocator_without_one(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True),
        (torch.AcceleratorError("whatever it says"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("Assertion failed: device-side assert triggered"), True),
        # Running out of memory leaves the CUDA context intact.
        (torch.OutOfMemoryError("CUDA error: out of memory"), False),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error"), False),
        (ModelLoadError("model 'x': CUDA error"), False),
    ],
    ids=lambda value: f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value),
)
def test_a_broken_context_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert is_device_error(error) is expected


@pytest.mark.parametrize(
    "exhaust", [lambda: torch.empty(2**52), lambda: torch.zeros(1).expand(2**52).clone()], ids=["empty", "clone"]
)
def test_memory_that_really_runs_out_on_the_cpu_is_recognised(exhaust: Callable[[], torch.Tensor]) -> None:
    with pytest.raises(RuntimeError) as caught:
        exhaust()
    assert is_out_of_memory(caught.value)
