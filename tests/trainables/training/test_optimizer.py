"""The optimizer's groups and its steps."""

import pytest
import torch
from torch import nn

from trainables.memory.cpu import CpuDevice
from trainables.memory.device import GIB
from trainables.settings import OptimSettings
from trainables.training.optimizer import apply_step, build_optimizer, prepare_states
from trainables.worker import MemoryTakenError


def test_biases_and_normalisation_are_not_decayed_and_what_is_frozen_is_left_out() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[3].weight.requires_grad = False
    optimizer = build_optimizer(model, OptimSettings(weight_decay=0.3))
    groups = {
        group["weight_decay"]: [
            name for name, weight in model.named_parameters() if any(weight is member for member in group["params"])
        ]
        for group in optimizer.param_groups
    }
    assert groups == {0.3: ["0.weight", "1.weight"], 0.0: ["1.bias", "2.weight", "2.bias", "3.bias"]}


def test_every_setting_reaches_the_optimizer() -> None:
    settings = OptimSettings(lr=0.1, weight_decay=0.2, beta1=0.7, beta2=0.8, eps=1e-5)
    defaults = build_optimizer(nn.Linear(2, 2), settings).defaults
    assert (defaults["lr"], defaults["betas"], defaults["eps"]) == (0.1, (0.7, 0.8), 1e-5)


def test_a_model_without_biases_can_be_optimised() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = build_optimizer(model, OptimSettings())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()


def taken_after(allocations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others take all memory once the step has made so many square roots, of which it needs one a parameter."""
    real, done = torch.Tensor.sqrt, [0]

    def sqrt(tensor: torch.Tensor) -> torch.Tensor:
        done[0] += 1
        if done[0] > allocations:
            raise torch.OutOfMemoryError("CPU out of memory")
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, "sqrt", sqrt)


def test_a_step_that_others_interrupt_is_never_taken_for_one_that_can_be_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Linear(3, 3)
    optimizer = build_optimizer(model, OptimSettings())
    prepare_states(optimizer)
    model(torch.ones(1, 3)).sum().backward()
    before = model.weight.detach().clone()
    taken_after(1, monkeypatch)
    with pytest.raises(MemoryTakenError, match="neighbour: in the middle of an optimizer step: CPU out of memory"):
        apply_step(optimizer, list(model.parameters()), clip_norm=0.0)
    # That is why: one parameter had moved.
    assert not torch.equal(model.weight, before)


def test_the_room_that_is_proved_is_all_that_a_step_needs() -> None:
    model = nn.Sequential(nn.Embedding(500, 64), nn.Linear(64, 64))
    optimizer = build_optimizer(model, OptimSettings())
    prepare_states(optimizer)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    CpuDevice().release()
    held, room = CpuDevice().live_bytes(), 2 * 500 * 64 * 4
    with CpuDevice((held + room + 8) / GIB).enforce():
        apply_step(optimizer, parameters, clip_norm=0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    short = CpuDevice((CpuDevice().live_bytes() + room - 8) / GIB)
    with short.enforce(), pytest.raises(torch.OutOfMemoryError):
        apply_step(optimizer, parameters, clip_norm=0.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
