"""Rehearsals: they have the peak of a real step, and leave no trace in the run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.planning import rehearsal as rehearsal_module
from trainables.planning.batch_limits import MachineFiles
from trainables.planning.rehearsal import Rehearsal, rehearsing
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
from trainables.training.step import train_step

LENGTH = 48
TOO_MANY = 2000


@dataclass
class Stage:
    """Session with dropout on a device of its own, whose budget is enforced."""

    session: TrainingSession
    device: CpuDevice

    def rehearsing(self) -> AbstractContextManager[Rehearsal]:
        session = self.session
        return rehearsing(
            session.model,
            session.task,
            session.optimizer,
            self.device,
            clip_norm=session.settings.train.clip_norm,
            precision=session.precision,
        )

    def real_peak(self, passes: list[int]) -> int:
        """Return the peak of a real step of so many rows a pass, all of full length."""
        session = self.session
        batches = [session.task.full_batch(rows, LENGTH) for rows in passes]
        session.model.train()
        with self.device.measured() as measured:
            train_step(
                session.model,
                session.task,
                batches,
                session.optimizer,
                clip_norm=session.settings.train.clip_norm,
                precision=session.precision,
            )
            session.optimizer.zero_grad(set_to_none=True)
        # In a run the batches are in the host's memory.
        return measured.peak_bytes - sum(tensor.nbytes for batch in batches for tensor in batch.values())


@pytest.fixture
def stage(builtin_settings: TrialSettings, cache: Path, machine_folder: Path) -> Iterator[Stage]:
    yield from staged(builtin_settings, cache, machine_folder)


@pytest.fixture
def any_stage(
    optimizer_name: str, builtin_settings: TrialSettings, cache: Path, machine_folder: Path
) -> Iterator[Stage]:
    """Yield a stage for every optimizer."""
    yield from staged(with_params(builtin_settings, {"optim.name": optimizer_name}), cache, machine_folder)


def staged(settings: TrialSettings, cache: Path, machine_folder: Path) -> Iterator[Stage]:
    device = CpuDevice(0.25)
    with device.enforce():
        session = TrainingSession(with_params(settings, {"head.pooling": "mean"}), cache, device)
        session.plan_memory(MachineFiles(machine_folder))
        # After one step no state is zero any more.
        Stage(session, device).real_peak([4])
        yield Stage(session, device)


def everything(stage: Stage) -> dict[str, Any]:
    """Return all state of a run that a rehearsal could change."""
    session = stage.session
    states = torch.optim.Optimizer.state_dict(session.optimizer)["state"]
    return {
        **{name: value.clone() for name, value in session.model.state_dict().items()},
        **{f"{number} {name}": deepcopy(value) for number, s in states.items() for name, value in s.items()},
        "random": torch.get_rng_state(),
        "gradients": [parameter.grad for parameter in session.model.parameters()],
        "modes": [module.training for module in session.model.modules()],
        "rates": [group["lr"] for group in session.optimizer.param_groups],
        "schedule": session.schedule.last_epoch,
    }


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def same(first: Any, second: Any) -> bool:
        return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second

    return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())


def runs_out(rehearsal: Rehearsal, device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rehearsal.training_peak(TOO_MANY, LENGTH, accumulating=True) is None


def refused(*_: object) -> None:
    raise torch.OutOfMemoryError("planted")


def runs_out_in_the_step(rehearsal: Rehearsal, device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal_module, "apply_step", refused)
    assert rehearsal.training_peak(4, LENGTH, accumulating=False) is None


def fits(rehearsal: Rehearsal, device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rehearsal.training_peak(8, LENGTH, accumulating=False) is not None
    assert rehearsal.training_peak(8, LENGTH, accumulating=True) is not None
    assert rehearsal.evaluation_peak(8, LENGTH) is not None


def runs_out_in_evaluation(rehearsal: Rehearsal, device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rehearsal.evaluation_peak(TOO_MANY, LENGTH) is None


@pytest.mark.parametrize("what", [fits, runs_out, runs_out_in_the_step, runs_out_in_evaluation])
def test_the_run_is_afterwards_as_if_nothing_had_been_rehearsed(
    what: Callable[..., None], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(stage)
    stage.device.release()
    stage.device.reset_peak()
    peak, live = stage.device.peak_bytes(), stage.device.live_bytes()
    with stage.rehearsing() as rehearsal:
        what(rehearsal, stage.device, monkeypatch)
    assert (stage.device.peak_bytes(), stage.device.live_bytes()) == (peak, live)
    assert is_same(everything(stage), before)


def test_a_rehearsal_really_changes_what_is_put_back(any_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = any_stage
    before = everything(stage)
    with stage.rehearsing() as rehearsal:
        fits(rehearsal, stage.device, monkeypatch)
        after = everything(stage)
    changed = {name for name, value in before.items() if not is_same({name: value}, {name: after[name]})}
    states = {name for name in before if name[0].isdigit() and "qmap" not in name}
    assert changed >= states
    assert any(name.startswith("head") for name in changed)
    assert is_same(everything(stage), before)


def test_a_rehearsal_of_any_optimizer_peaks_where_a_real_step_does(any_stage: Stage) -> None:
    any_stage.device.release()
    with any_stage.rehearsing() as rehearsal:
        peak = rehearsal.training_peak(8, LENGTH, accumulating=False)
    assert peak == pytest.approx(any_stage.real_peak([8]), abs=32)


def test_an_error_of_another_kind_is_not_swallowed_and_everything_is_put_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ValueError("planted")

    before = everything(stage)
    monkeypatch.setattr(rehearsal_module, "apply_step", bug)
    with pytest.raises(ValueError, match="planted"), stage.rehearsing() as rehearsal:
        rehearsal.training_peak(4, LENGTH, accumulating=False)
    assert is_same(everything(stage), before)


def test_training_is_rehearsed_with_dropout_and_gradients_and_evaluation_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool, bool]] = []

    def look(module: torch.nn.Module, inputs: object, outputs: torch.Tensor) -> None:
        seen.append((module.training, torch.is_grad_enabled(), outputs.requires_grad))

    handle = stage.session.model.register_forward_hook(look)
    moved: list[bool] = []
    real = rehearsal_module.apply_step

    def apply_step(optimizer: Any, parameters: list[torch.nn.Parameter], clip_norm: float) -> None:
        moved.append(all(bool(parameter.grad is not None) for parameter in parameters))
        real(optimizer, parameters, clip_norm)

    monkeypatch.setattr(rehearsal_module, "apply_step", apply_step)
    with stage.rehearsing() as rehearsal:
        rehearsal.training_peak(4, LENGTH, accumulating=False)
        rehearsal.evaluation_peak(4, LENGTH)
        rehearsal.training_peak(4, LENGTH, accumulating=True)
    handle.remove()
    assert seen == [(True, True, True), (False, False, False), (True, True, True)]
    assert moved == [True, True]


@pytest.mark.parametrize(("rows", "accumulating"), [(1, True), (8, False), (8, True), (32, False)])
def test_the_peak_is_that_of_a_real_step(rows: int, accumulating: bool, stage: Stage) -> None:
    with stage.rehearsing() as rehearsal:
        peak = rehearsal.training_peak(rows, LENGTH, accumulating=accumulating)
    real = stage.real_peak([rows, rows] if accumulating else [rows])
    # A real step also sums its losses, in a number or two.
    assert peak == pytest.approx(real, abs=32)


def test_after_going_on_from_a_checkpoint_nothing_changes_either_but_old_gradients_are_given_up(
    stage: Stage, tmp_path: Path
) -> None:
    session = stage.session
    session.train_epoch()
    folder = session.save(tmp_path / "checkpoint")
    session.train_epoch()
    session.resume(folder)
    with stage.rehearsing() as rehearsal:
        # Gradients of an earlier step are no part of a first pass.
        peak = rehearsal.training_peak(8, LENGTH, accumulating=False)
        assert all(parameter.grad is None for parameter in session.model.parameters())
        assert peak == rehearsal.training_peak(8, LENGTH, accumulating=False)
    session.resume(folder)
    before = everything(stage)
    with stage.rehearsing() as rehearsal:
        assert rehearsal.training_peak(8, LENGTH, accumulating=True)
    assert is_same(everything(stage), before)


def test_memory_that_others_took_is_told_apart_from_a_need_that_is_too_large(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage.rehearsing() as rehearsal:
        assert rehearsal.training_peak(TOO_MANY, LENGTH, accumulating=False) is None
        assert not rehearsal.disturbed
        monkeypatch.setattr(CpuDevice, "cause_of", lambda *_: "neighbour")
        assert rehearsal.training_peak(TOO_MANY, LENGTH, accumulating=False) is None
        assert rehearsal.disturbed


def test_tensors_to_restore_take_no_device_memory(stage: Stage) -> None:
    stage.device.release()
    before = stage.device.live_bytes()
    with stage.rehearsing():
        assert stage.device.live_bytes() == before
    assert before / GIB > 0
