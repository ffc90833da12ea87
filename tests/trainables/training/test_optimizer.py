"""Optimizers: their groups, the settings that they read, their states, their steps and the memory for them."""

import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.declaration import declared_fields
from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.optimizers import OPTIMIZERS, OptimizerMissingError
from trainables.settings import OptimSettings
from trainables.training.checkpoint import TrialProgress, load_checkpoint, save_checkpoint
from trainables.training.groups import parameter_groups
from trainables.training.optimizer import apply_step, build_optimizer, prepare_states, room_bytes
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


def small_model() -> nn.Sequential:
    """Return a model with weights large enough for 8-bit states, and some too small.

    Two of equal size follow each other, and the largest comes last.
    """
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 200))


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    inputs = torch.linspace(-1, 1, 5 * 64).reshape(5, 64)
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        model(inputs).square().mean().backward()
        apply_step(optimizer, list(model.parameters()), clip_norm=1.0)


def trained(settings: OptimSettings) -> dict[str, torch.Tensor]:
    """Return the weights after four steps."""
    model = small_model()
    optimizer = build_optimizer(model, settings)
    prepare_states(optimizer)
    steps(model, optimizer, 4)
    return model.state_dict()


def is_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


CHANGES = {"lr": 3e-3, "weight_decay": 0.3, "beta1": 0.5, "beta2": 0.6, "eps": 0.1}


@pytest.mark.parametrize("field", CHANGES)
def test_only_the_settings_that_an_optimizer_reads_change_the_weights(optimizer_name: str, field: str) -> None:
    before = OptimSettings(optimizer_name, lr=1e-2, weight_decay=0.1)
    after = OptimSettings(**{**vars(before), field: CHANGES[field]})
    assert is_same(trained(before), trained(after)) == (f"optim.{field}" not in OPTIMIZERS[optimizer_name].reads)


def test_every_setting_of_optimizers_is_read_by_one() -> None:
    read = frozenset[str]().union(*(facts.reads for facts in OPTIMIZERS.values()))
    assert read == {f"optim.{declared.name}" for declared in declared_fields(OptimSettings)} - {"optim.name"}


def test_every_optimizer_goes_another_way(optimizer_name: str) -> None:
    others = OPTIMIZERS.keys() - {optimizer_name, "lion", "adamw_8bit"}
    weights = trained(OptimSettings(optimizer_name, lr=1e-2))
    assert not any(is_same(weights, trained(OptimSettings(other, lr=1e-2))) for other in others)


def described(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (value.shape, value.dtype, value.device) if isinstance(value, torch.Tensor) else type(value)
        for name, value in state.items()
    }


def test_states_are_prepared_as_the_first_step_would_make_them(optimizer_name: str) -> None:
    models = [small_model(), small_model()]
    prepared, lazy = (build_optimizer(model, OptimSettings(optimizer_name, lr=1e-2)) for model in models)
    prepare_states(prepared)
    assert is_same(models[0].state_dict(), models[1].state_dict())
    for model, optimizer in zip(models, (prepared, lazy), strict=True):
        before = {parameter: described(state) for parameter, state in optimizer.state.items()}
        steps(model, optimizer, 3)
        if before:
            assert before == {parameter: described(state) for parameter, state in optimizer.state.items()}
    assert is_same(models[0].state_dict(), models[1].state_dict())
    assert list(map(described, prepared.state.values())) == list(map(described, lazy.state.values()))


class PeakOfNew(TorchDispatchMode):
    """Counter of the peak of new storages, independent of the code under test."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._known: set[int] = set()
        self._live: dict[int, int] = {}

    def knows(self, *tensors: torch.Tensor | None) -> None:
        self._known |= {tensor.untyped_storage()._cdata for tensor in tensors if tensor is not None}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten" and func._can_decompose():
            with self:
                return func.decompose(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            storage = result.untyped_storage()
            address = storage._cdata
            if address not in self._known and address not in self._live:
                self._live[address] = storage.nbytes()
                weakref.finalize(storage, self._live.pop, address)
                self.peak = max(self.peak, sum(self._live.values()))
        return result


SHAPES = {
    "the largest first": [(300, 64), (64, 64), (64,), (8,)],
    "the largest last": [(8,), (9, 5), (64, 64), (70, 70)],
    "two large in a row": [(5,), (64, 64), (64, 64), (7, 7)],
    "in three dimensions": [(4, 32, 16), (16,), (3, 16, 16)],
    "vectors alone": [(400,), (500,), (90,)],
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("together", [False, True])
def test_the_room_of_a_step_is_what_its_temporaries_take(
    optimizer_name: str, shapes: list[tuple[int, ...]], together: bool
) -> None:
    model = nn.ParameterList([nn.Parameter(torch.ones(shape)) for shape in shapes])
    optimizer = build_optimizer(model, OptimSettings(optimizer_name))
    if together:
        first = optimizer.param_groups[0]
        first["params"] = list(model)
        del optimizer.param_groups[1:]
    prepare_states(optimizer)
    counter = PeakOfNew()
    for parameter in model:
        parameter.grad = torch.full_like(parameter, 0.5)
        counter.knows(parameter, parameter.grad, *filter(torch.is_tensor, optimizer.state[parameter].values()))
    with counter:
        optimizer.step()
    assert counter.peak <= room_bytes(optimizer) <= counter.peak + 8


def test_what_has_no_gradient_needs_no_room(optimizer_name: str) -> None:
    assert room_bytes(build_optimizer(small_model(), OptimSettings(optimizer_name))) == 0


def test_a_checkpoint_does_not_choose_the_kernels_of_the_run_that_resumes_from_it(tmp_path: Path) -> None:
    model = small_model()
    earlier = torch.optim.AdamW(parameter_groups(model, OptimSettings()), lr=0.1, foreach=False)
    schedule = torch.optim.lr_scheduler.LambdaLR(earlier, lambda step: 1.0)
    steps(model, earlier, 2)
    save_checkpoint(tmp_path / "at", model=model, optimizer=earlier, schedule=schedule, progress=TrialProgress())

    resumed, optimizer = small_model(), build_optimizer(model, OptimSettings())
    prepare_states(optimizer)
    load_checkpoint(tmp_path / "at", model=resumed, optimizer=optimizer, schedule=schedule)
    assert [group["fused"] for group in optimizer.param_groups] == [True] * len(optimizer.param_groups)
    moments = [optimizer.state[parameter]["exp_avg"] for parameter in model.parameters()]
    before = [earlier.state[parameter]["exp_avg"] for parameter in model.parameters()]
    assert all(map(torch.equal, moments, before))


def test_an_optimizer_whose_package_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("lion", "adamw_8bit"):
        monkeypatch.setitem(OPTIMIZERS, missing, replace(OPTIMIZERS[missing], package="not-here"))
        with pytest.raises(OptimizerMissingError, match=rf"{missing}.*pip install not-here,"):
            build_optimizer(nn.Linear(2, 2), OptimSettings(missing))
    build_optimizer(nn.Linear(2, 2), OptimSettings("adafactor"))


def test_a_model_without_biases_can_be_optimised() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = build_optimizer(model, OptimSettings())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()


class TakenHalfway(torch.optim.SGD):
    """Optimizer whose memory others take once it has changed a parameter."""

    def step(self, closure: Any = None) -> None:
        with torch.no_grad():
            self.param_groups[0]["params"][0].add_(1.0)
        raise torch.OutOfMemoryError("CPU out of memory")


def test_a_step_that_others_interrupt_is_never_taken_for_one_that_can_be_done_again() -> None:
    model = nn.Linear(3, 3)
    model(torch.ones(1, 3)).sum().backward()
    with pytest.raises(MemoryTakenError, match="neighbour: in the middle of an optimizer step: CPU out of memory"):
        apply_step(TakenHalfway(model.parameters()), list(model.parameters()), clip_norm=0.0)


def test_the_room_that_is_proved_is_all_that_a_step_needs() -> None:
    model = nn.Sequential(nn.Embedding(500, 64), nn.Linear(64, 64))
    optimizer = build_optimizer(model, OptimSettings("adafactor"))
    prepare_states(optimizer)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    CpuDevice().release()
    held, room = CpuDevice().live_bytes(), room_bytes(optimizer)
    assert room >= 500 * 64 * 4
    with CpuDevice((held + room + 8) / GIB).enforce():
        apply_step(optimizer, parameters, clip_norm=0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    short = CpuDevice((CpuDevice().live_bytes() + room - 8) / GIB)
    with short.enforce(), pytest.raises(torch.OutOfMemoryError):
        apply_step(optimizer, parameters, clip_norm=0.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


TRACED_FIRST = """
from contextlib import suppress
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from trainables.settings import OptimSettings
from trainables.training.checkpoint import TrialProgress, load_checkpoint, save_checkpoint
from trainables.training.groups import parameter_groups
from trainables.training.optimizer import build_optimizer

# It reads numbers out of tensors, which a trace would answer.
with FakeTensorMode(), suppress(DataDependentOutputException):
    build_optimizer(nn.Linear(64, 64), OptimSettings("adamw_8bit"))
from bitsandbytes.backends import utils
print(type(utils._NF4_QUANT_TABLE).__name__)
"""


def test_a_package_that_is_first_imported_for_a_trace_is_of_use_afterwards() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra 8bit is not installed")
    ran = subprocess.run([sys.executable, "-c", TRACED_FIRST], capture_output=True, text=True, check=True, timeout=300)
    assert ran.stdout.split() == ["Tensor"]
