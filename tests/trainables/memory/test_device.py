"""What holds for every device: live bytes are counted, and given back when nothing refers to them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.memory.device import CpuDevice, CudaDevice, MemoryDevice, current_device, device_name

MIB = 2**20


@pytest.fixture(
    params=[
        CpuDevice,
        pytest.param(
            CudaDevice,
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> MemoryDevice:
    kind: Callable[[], MemoryDevice] = request.param
    return kind()


@pytest.fixture
def grown(device: MemoryDevice) -> Callable[[], int]:
    """MiB that live now and did not when the test began."""
    device.release()
    before = device.live_bytes()
    return lambda: round((device.live_bytes() - before) / MIB)


def test_a_tensor_counts_while_it_lives(device: MemoryDevice, grown: Callable[[], int]) -> None:
    held = torch.ones(32 * MIB // 4, device=device.torch_device)
    assert grown() == 32
    del held
    assert grown() == 0


def test_views_and_parameters_on_one_storage_count_once(device: MemoryDevice, grown: Callable[[], int]) -> None:
    held = torch.ones(8, 4 * MIB // 4, device=device.torch_device)
    views = [held[0], held.t(), torch.nn.Parameter(held)]
    assert grown() == 32
    del held
    # A part of it keeps all of it.
    del views[1:]
    assert grown() == 32


def test_what_only_refers_to_itself_is_given_back(device: MemoryDevice, grown: Callable[[], int]) -> None:
    cycle: list[Any] = [torch.ones(32 * MIB // 4, device=device.torch_device)]
    cycle.append(cycle)
    del cycle
    device.release()
    assert grown() == 0


def test_the_peak_is_that_since_the_last_reset(device: MemoryDevice) -> None:
    device.release()
    device.reset_peak()
    before = device.peak_gib()
    torch.ones(64 * MIB // 4, device=device.torch_device)
    peak = device.peak_gib()
    if before is None:
        assert peak is None
    else:
        assert peak is not None
        assert peak - before >= 64 / 1024


class Rude(torch.Tensor):
    """A tensor that answers no question."""

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        raise KeyError("rude")


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_tensors_without_memory_and_strange_ones_are_passed_over() -> None:
    device = CpuDevice()
    before = device.live_bytes()
    with FakeTensorMode():
        fake = torch.empty(2**40)
    strange = [
        fake,
        torch.empty(2**40, device="meta"),
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.nn.UninitializedParameter(),
        torch.ones(3).as_subclass(Rude),
    ]
    assert device.live_bytes() - before < MIB
    del strange


def test_the_device_of_this_process_is_cuda_where_there_is_one() -> None:
    device = current_device()
    assert device.torch_device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_name(torch.device("cpu")) == "cpu"
