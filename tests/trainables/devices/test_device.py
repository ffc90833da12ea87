"""Contract of every memory device: it counts live bytes, releases dead ones, and keeps its budget."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainables.devices.cpu import CpuDevice
from trainables.devices.cuda import CudaDevice
from trainables.devices.current import current_device
from trainables.devices.device import MemoryDevice, device_name, entitlement
from trainables.devices.errors import is_out_of_memory
from trainables.devices.host import GIB
from trainables.devices.shared import SharedBudget

MIB = 2**20

NewDevice = Callable[[float | None], MemoryDevice]


@pytest.fixture(
    params=[
        "cpu",
        "shared cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ]
)
def new_device(request: pytest.FixtureRequest, tmp_path: Path) -> NewDevice:
    """Return a function that makes a device, with or without a budget.

    The shared device is a card made of the CPU's memory, as large as it gets.
    """
    if request.param == "shared cpu":
        return lambda budget: CpuDevice(budget, device_gib=2**20, shared=SharedBudget(tmp_path / "cpu.slots"))
    return CpuDevice if request.param == "cpu" else CudaDevice


@pytest.fixture
def device(new_device: NewDevice) -> MemoryDevice:
    return new_device(None)


@pytest.fixture
def small(new_device: NewDevice) -> MemoryDevice:
    """Return a device whose budget leaves 128 MiB above the present use of the process."""
    roomy = new_device(None)
    with roomy.enforce():
        roomy.release()
        roomy.reset_peak()
        held = roomy.peak_bytes()
    return new_device((held + 128 * MIB) / GIB)


def tensor(device: MemoryDevice, mib: int) -> torch.Tensor:
    return torch.ones(mib * MIB // 4, device=device.torch_device)


def grown(device: MemoryDevice, before: int) -> int:
    """Return the MiB that live now and did not before."""
    return round((device.live_bytes() - before) / MIB)


@pytest.fixture(params=["plain", "enforced"])
def counted(request: pytest.FixtureRequest, device: MemoryDevice) -> Any:
    """Yield the device, without and with its budget enforced."""
    device.release()
    if request.param == "plain":
        yield device
    else:
        with device.enforce():
            yield device


# Live bytes


def test_a_tensor_counts_while_it_lives(counted: MemoryDevice) -> None:
    before = counted.live_bytes()
    held = tensor(counted, 32)
    assert grown(counted, before) == 32
    assert counted.reserved_bytes() >= 32 * MIB
    del held
    assert grown(counted, before) == 0


def test_views_and_parameters_on_one_storage_count_once(counted: MemoryDevice) -> None:
    before = counted.live_bytes()
    held = tensor(counted, 32).view(8, -1)
    views = [held[0], held.t(), nn.Parameter(held), held.reshape(4, -1), held.contiguous(), held.to(held.device)]
    assert grown(counted, before) == 32
    del held
    # A view of a part retains the whole storage.
    del views[1:]
    assert grown(counted, before) == 32
    views.clear()
    assert grown(counted, before) == 0


def test_in_place_operators_bring_nothing_new_and_growing_ones_their_growth(counted: MemoryDevice) -> None:
    before = counted.live_bytes()
    held = tensor(counted, 32)
    held.add_(1).mul_(2)
    assert grown(counted, before) == 32
    grows = torch.empty(0, device=counted.torch_device)
    torch.add(held, 1, out=grows)
    assert grown(counted, before) == 64
    grows.resize_(2 * held.numel())
    assert grown(counted, before) == 96


def test_reference_cycles_are_freed(counted: MemoryDevice) -> None:
    before = counted.live_bytes()
    cycle: list[Any] = [tensor(counted, 32)]
    cycle.append(cycle)
    del cycle
    counted.release()
    assert grown(counted, before) == 0


def test_gradients_and_optimizer_state_count(counted: MemoryDevice) -> None:
    before = counted.live_bytes()
    weight = nn.Parameter(tensor(counted, 8))
    optimizer = torch.optim.AdamW([weight], foreach=False)
    (weight * 2).sum().backward()
    assert grown(counted, before) == 16
    optimizer.step()
    assert grown(counted, before) == 32
    optimizer.zero_grad(set_to_none=True)
    assert grown(counted, before) == 24
    del weight, optimizer
    counted.release()
    assert grown(counted, before) == 0


class RunsOutBackwards(torch.autograd.Function):
    """Identity whose gradient runs out of memory."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor) -> torch.Tensor:
        return features.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("planted")


def test_tensors_of_a_backward_pass_that_ran_out_of_memory_are_freed(counted: MemoryDevice) -> None:
    before = counted.live_bytes()
    weight = nn.Parameter(tensor(counted, 8))
    # Autograd runs the newest branch first; the other one waits with its saved tensors.
    waits = weight.exp().exp().sum()
    loss = waits + RunsOutBackwards.apply(weight).sum()
    with pytest.raises(torch.OutOfMemoryError, match="planted") as caught:
        loss.backward()
    del caught, waits, loss
    counted.release()
    assert grown(counted, before) == 8
    with torch.inference_mode():
        counted.release()


def test_tensors_saved_by_autograd_live_until_backward(device: MemoryDevice) -> None:
    device.release()
    with device.enforce():
        weight = nn.Parameter(tensor(device, 8))
        before = device.live_bytes()
        result = weight.exp().exp().sum()
        assert grown(device, before) == 16
        result.backward()
        del result
        assert grown(device, before) == 8


# The peak


def test_the_peak_is_the_most_that_was_held_since_the_last_reset(device: MemoryDevice) -> None:
    device.release()
    with device.enforce():
        device.reset_peak()
        start = device.peak_bytes()
        tensor(device, 64)
        high = device.peak_bytes()
        assert high - start >= 64 * MIB
        tensor(device, 16)
        assert device.peak_bytes() == high
        device.release()
        device.reset_peak()
        assert device.peak_bytes() - start < 16 * MIB
        tensor(device, 32)
        after = device.peak_bytes()
        assert after - start >= 32 * MIB
    assert device.peak_bytes() >= after


def test_a_measured_block_has_a_peak_of_its_own_and_leaves_the_one_outside_as_it_was(device: MemoryDevice) -> None:
    with device.enforce():
        device.release()
        device.reset_peak()
        start = device.peak_bytes()
        tensor(device, 32)
        outside = device.peak_bytes()
        for mib in (64, 8):
            with device.measured() as measured:
                tensor(device, mib)
            assert mib * MIB <= measured.peak_bytes - start < (mib + 16) * MIB
            assert device.peak_bytes() == outside
        tensor(device, 48)
        assert 48 * MIB <= device.peak_bytes() - start < 64 * MIB
        outside = device.peak_bytes()
    assert device.peak_bytes() == outside
    device.reset_peak()
    assert device.peak_bytes() < outside


def test_a_block_that_fails_is_measured_too(device: MemoryDevice) -> None:
    def fails() -> None:
        held = tensor(device, 64)
        raise ValueError(held.numel())

    with device.enforce():
        device.release()
        device.reset_peak()
        start = device.peak_bytes()
        try:
            with device.measured() as measured:
                fails()
        except ValueError:
            pass
        device.release()
        assert measured.peak_bytes - start >= 64 * MIB
        tensor(device, 8)
        assert device.peak_bytes() - start < 16 * MIB


def test_a_measured_block_begins_with_what_is_in_use_and_what_it_leaves_behind_counts(device: MemoryDevice) -> None:
    with device.enforce():
        device.release()
        device.reset_peak()
        start = device.peak_bytes()
        cycle: list[Any] = [tensor(device, 64)]
        cycle.append(cycle)
        del cycle
        with device.measured() as measured:
            pass
        assert measured.peak_bytes - start < 16 * MIB
        device.reset_peak()
        with device.measured():
            held = tensor(device, 32)
        assert 32 * MIB <= device.peak_bytes() - start < 48 * MIB
        del held


def test_measured_blocks_may_be_nested(device: MemoryDevice) -> None:
    with device.enforce():
        device.release()
        with device.measured() as outer:
            tensor(device, 32)
            with device.measured() as inner:
                tensor(device, 64)
    assert inner.peak_bytes - outer.peak_bytes == 32 * MIB


# The device and its budget


def test_without_a_budget_the_whole_device_may_be_used(device: MemoryDevice) -> None:
    assert 0 < device.free_bytes() <= device.total_bytes()
    assert 0 < device.budget_bytes() <= device.entitled_bytes() == device.total_bytes()
    assert 0 <= device.others_bytes() < device.total_bytes()


def test_a_budget_is_kept_as_given(new_device: NewDevice) -> None:
    device = new_device(0.5)
    assert device.budget_bytes() == device.entitled_bytes() == GIB // 2
    with device.enforce():
        assert device.budget_bytes() == GIB // 2


def test_the_allocation_that_would_break_the_budget_is_refused_and_no_other(small: MemoryDevice) -> None:
    small.release()
    with small.enforce():
        held = [tensor(small, 20) for _ in range(6)]
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 20\.00 MiB") as caught:
            tensor(small, 20)
        assert is_out_of_memory(caught.value)
        needed = small.needed_bytes(caught.value)
        assert needed is not None
        assert 0 < needed - small.budget_bytes() <= 20 * MIB
        assert small.cause_of(caught.value) == "own"
        assert small.peak_bytes() <= small.budget_bytes()
        # Released bytes are available again.
        del held[2:]
        small.release()
        held += [tensor(small, 20) for _ in range(4)]
    held.append(tensor(small, 20))


def test_memory_loaded_before_counts(small: MemoryDevice) -> None:
    loaded = tensor(small, 100)
    with small.enforce():
        with pytest.raises(torch.OutOfMemoryError):
            tensor(small, 40)
        tensor(small, 20)
        del loaded
        small.release()
        tensor(small, 120)


def test_an_error_that_does_not_say_what_was_needed_tells_nothing(device: MemoryDevice) -> None:
    assert device.needed_bytes(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")) is None
    assert device.needed_bytes(torch.OutOfMemoryError("out of memory")) is None
    assert device.cause_of(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")) == "own"
    assert device.cause_of(torch.OutOfMemoryError("out of memory")) == "own"


def test_a_budget_is_not_enforced_twice(device: MemoryDevice) -> None:
    with device.enforce(), pytest.raises(RuntimeError, match="enforced already"), device.enforce():
        pass
    with device.enforce():
        pass


def use(weight: torch.Tensor) -> torch.Tensor:
    """Return a loss that saves four times its input for backward; without backward it holds two copies at once."""
    return weight.exp().exp().exp().exp().sum()


def in_forward(device: MemoryDevice) -> None:
    use(nn.Parameter(tensor(device, 40)))


def in_backward(device: MemoryDevice) -> None:
    # Forward holds 90 MiB, backward needs 45 more.
    nn.Parameter(tensor(device, 45)).exp().sum().backward()


def in_optimizer_step(device: MemoryDevice) -> None:
    weight = nn.Parameter(tensor(device, 40))
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], foreach=False).step()


def in_recomputation(device: MemoryDevice) -> None:
    weight = nn.Parameter(tensor(device, 30))
    result = checkpoint(use, weight, use_reentrant=False)
    assert isinstance(result, torch.Tensor)
    result.backward()


def in_inference(device: MemoryDevice) -> None:
    weight = tensor(device, 40).view(-1, 1024)
    with torch.inference_mode():
        # A linear layer arrives undivided in inference mode; the device still sees the operations inside it.
        nn.functional.linear(weight, torch.ones(4096, 1024, device=device.torch_device))


@pytest.mark.parametrize(
    "work", [in_forward, in_backward, in_optimizer_step, in_recomputation, in_inference], ids=lambda work: work.__name__
)
def test_memory_runs_out_wherever_it_is_asked_for(work: Callable[[MemoryDevice], None], small: MemoryDevice) -> None:
    small.release()
    before = small.live_bytes()
    failed = False
    with small.enforce():
        try:
            work(small)
        except torch.OutOfMemoryError:
            failed = True
        small.release()
        assert failed
        assert small.peak_bytes() <= small.budget_bytes()
        # A constant that torch retains is no leak.
        assert abs(small.live_bytes() - before) < MIB


def test_a_step_that_fits_trains_as_it_would_without_a_budget(device: MemoryDevice) -> None:
    def trained() -> list[float]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Dropout(0.1), nn.Linear(32, 1))
        model.to(device.torch_device)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
        inputs = torch.randn(8, 16, device=device.torch_device)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    free = trained()
    with device.enforce():
        assert trained() == free
    assert all(math.isfinite(loss) for loss in free)


def test_the_device_of_this_process_is_cuda_where_there_is_one() -> None:
    device = current_device(0.25)
    assert device.torch_device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device.budget_bytes() == GIB // 4
    assert device_name(torch.device("cpu")) == "cpu"


def test_a_card_of_a_given_size_is_made_of_the_cpu_and_a_larger_one_counts_as_that() -> None:
    device = current_device(share=0.5, device_gib=0.5)
    assert (device.total_bytes(), device.entitled_bytes()) == (GIB // 2, GIB // 4)
    assert device.free_bytes() <= GIB // 2


def test_a_budget_can_only_lower_the_share() -> None:
    assert entitlement(8 * GIB, 0.5, None) == 4 * GIB
    assert entitlement(8 * GIB, 0.5, 3) == 3 * GIB
    assert entitlement(8 * GIB, 0.5, 6) == 4 * GIB


def test_a_share_of_the_hosts_memory_is_a_trials_own() -> None:
    whole, half = CpuDevice(), CpuDevice(share=0.5)
    assert half.entitled_bytes() == pytest.approx(whole.entitled_bytes() / 2, abs=1)
    assert CpuDevice(0.001, share=0.5).entitled_bytes() == CpuDevice(0.001).entitled_bytes(), "a budget is less"
