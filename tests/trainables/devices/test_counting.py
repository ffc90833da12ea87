"""Features of the counted CPU alone: the message of a refusal, strange tensors, processes that pad batches ahead."""

import gc
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader, Dataset

from trainables.devices.counting import BudgetExceededError, uncounted
from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB

MIB = 2**20


def test_the_message_follows_that_of_cuda_and_has_all_figures() -> None:
    error = BudgetExceededError(asked_bytes=3 * GIB // 2, live_bytes=990 * MIB, budget_bytes=GIB)
    assert str(error) == (
        "CPU out of memory. Tried to allocate 1.50 GiB. The budget is 1.00 GiB, of which 990.00 MiB is live and"
        " 34.00 MiB is free."
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_refused_storage_is_not_counted() -> None:
    device = CpuDevice(0.125)
    with device.enforce():
        before = device.live_bytes()
        with pytest.raises(BudgetExceededError) as caught:
            torch.empty(256 * MIB)
        assert device.live_bytes() == before
        assert (caught.value.live_bytes, caught.value.budget_bytes) == (before, 128 * MIB)
        assert caught.value.asked_bytes == 1024 * MIB


def test_uncounted_memory_is_neither_counted_nor_refused() -> None:
    device = CpuDevice(CpuDevice().live_bytes() / GIB + 16 / 1024)
    with device.enforce():
        before = device.live_bytes()
        with uncounted():
            staged = torch.ones(64 * MIB // 4)
        held = torch.empty(8 * MIB // 4).copy_(staged[: 8 * MIB // 4])
        assert device.live_bytes() - before == 8 * MIB
        del staged, held
        assert device.live_bytes() == before


class Rude(torch.Tensor):
    """Tensor that answers no question."""

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        raise KeyError("rude")


@pytest.mark.parametrize("enforced", [False, True])
@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_tensors_without_memory_and_strange_ones_are_passed_over(enforced: bool) -> None:
    def strange() -> list[Any]:
        with FakeTensorMode():
            fake = torch.empty(2**40)
        return [
            fake,
            torch.empty(2**40, device="meta"),
            torch.eye(3).to_sparse(),
            torch.eye(3).to_sparse_csr(),
            nn.UninitializedParameter(),
            torch.ones(3).as_subclass(Rude),
        ]

    device = CpuDevice()
    before = device.live_bytes()
    if enforced:
        with device.enforce():
            held = strange()
            assert device.live_bytes() - before < MIB
    else:
        held = strange()
        assert device.live_bytes() - before < MIB
    del held


def test_counting_and_searching_agree_on_a_training_step() -> None:
    device = CpuDevice()
    with device.enforce():
        model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(4, 16, 64)).sum().backward()
            optimizer.step()
        gc.collect()
        counted = device.live_bytes()
    assert counted == device.live_bytes()


class Squares(Dataset[torch.Tensor]):
    """Data set whose items take far more memory to make than they hold."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.ones(64 * MIB // 4)[: MIB // 4].clone() * row


def test_a_process_that_pads_ahead_has_memory_of_its_own() -> None:
    device = CpuDevice(CpuDevice().live_bytes() / GIB + 16 / 1024)
    with device.enforce():
        before = device.live_bytes()
        loader = DataLoader(Squares(), batch_size=2, num_workers=1)
        batches = list(loader)
        # The batches that arrive count.
        assert device.live_bytes() - before == 4 * MIB
        assert [float(batch[1, 0]) for batch in batches] == [1.0, 3.0]
