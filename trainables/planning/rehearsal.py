"""Worst-case passes that run only to measure their peaks; afterwards the run is as if they had not happened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from trainables.devices.counting import uncounted
from trainables.devices.device import MemoryDevice
from trainables.devices.errors import OutOfMemory
from trainables.devices.random_state import RandomState
from trainables.tasks.protocol import Task
from trainables.training.optimizer import apply_step
from trainables.training.precision import autocast
from trainables.training.step import backward_pass, to_device


class Rehearsal:
    """Runner of full passes of a run at any size. Use it through ``rehearsing``, which restores everything.

    Attributes:
        disturbed: whether memory that the run is entitled to ran out. The result then says nothing about the next run.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        device: MemoryDevice,
        *,
        clip_norm: float,
        precision: str,
    ) -> None:
        self._model = model
        self._task = task
        self._optimizer = optimizer
        self._device = device
        self._clip_norm = clip_norm
        self._precision = precision
        self.disturbed = False

    def training_peak(self, rows: int, length: int, *, accumulating: bool) -> int | None:
        """Return the peak in bytes of one optimizer step with such a pass; None if memory ran out.

        Args:
            accumulating: whether the gradients of earlier passes live beside it.
        """
        return self._peak(self._train, rows, length, accumulating)

    def evaluation_peak(self, rows: int, length: int) -> int | None:
        """Return the peak in bytes of one evaluation pass; None if memory ran out."""
        return self._peak(self._evaluate, rows, length, False)

    def _peak(self, run: Callable[[int, int, bool], None], rows: int, length: int, accumulating: bool) -> int | None:
        return peak_bytes(
            self._device,
            lambda: run(rows, length, accumulating),
            ran_out=self._note,
            clean_up=lambda: self._optimizer.zero_grad(set_to_none=True),
        )

    def _note(self, failure: OutOfMemory) -> None:
        self.disturbed |= failure.cause != "own"

    def _train(self, rows: int, length: int, accumulating: bool) -> None:
        self._model.train()
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        if accumulating:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
        with uncounted():
            batch = self._task.full_batch(rows, length)
        counted, where = self._task.counted(batch), self._device.torch_device
        backward_pass(self._model, self._task, to_device(batch, where), counted, self._precision)
        apply_step(self._optimizer, parameters, self._clip_norm)

    def _evaluate(self, rows: int, length: int, _: bool) -> None:
        full_evaluation(self._model, self._task, rows, length, self._device, self._precision)


def peak_bytes(
    device: MemoryDevice,
    run: Callable[[], None],
    *,
    ran_out: Callable[[OutOfMemory], None] = lambda failure: None,
    clean_up: Callable[[], None] = lambda: None,
) -> int | None:
    """Return the peak in bytes of a run; None if memory ran out.

    Args:
        ran_out: called if memory ran out.
        clean_up: drops what the run leaves behind.
    """
    fits = True
    with device.measured() as measured:
        try:
            run()
        except Exception as error:
            failure = OutOfMemory.of(error, device)
            if failure is None:
                raise
            fits = False
            ran_out(failure)
        # Release after the ``except`` block, whose traceback holds the failed frames' memory. Release before the
        # measured block ends, because the outer peak counts what that block leaves behind.
        clean_up()
        device.release()
    return measured.peak_bytes if fits else None


def full_evaluation(model: nn.Module, task: Task, rows: int, length: int, device: MemoryDevice, precision: str) -> None:
    """Run an evaluation pass over inputs without content, which leaves the model in evaluation mode."""
    model.eval()
    with uncounted():
        batch = task.full_batch(rows, length)
    with torch.inference_mode(), autocast(precision, device.torch_device):
        batch = to_device(batch, device.torch_device)
        task.outputs_to_score(model(batch), batch)


@contextmanager
def rehearsing(
    model: nn.Module,
    task: Task,
    optimizer: torch.optim.Optimizer,
    device: MemoryDevice,
    *,
    clip_norm: float,
    precision: str,
) -> Iterator[Rehearsal]:
    """Rehearse within the block; restore weights, optimizer, random states and the modules' modes at its end.

    The originals wait in the host's memory, because a device may lack room for a second copy. Gradients, which belong
    to a finished step, are dropped.
    """
    optimizer.zero_grad(set_to_none=True)
    preserved = [*model.parameters(), *model.buffers(), *_state_tensors(optimizer)]
    # Optimizer states that are no tensors, such as a step count.
    plain = {parameter: _plain_values(state) for parameter, state in optimizer.state.items()}
    with uncounted():
        originals = [tensor.detach().to("cpu", copy=True) for tensor in preserved]
    # Modes differ between modules: a freshly loaded encoder is in evaluation, its head in training.
    random, modes = RandomState(device.torch_device), [(module, module.training) for module in model.modules()]
    try:
        yield Rehearsal(model, task, optimizer, device, clip_norm=clip_norm, precision=precision)
    finally:
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad(), uncounted():
            for tensor, original in zip(preserved, originals, strict=True):
                tensor.copy_(original)
        for parameter, values in plain.items():
            optimizer.state[parameter].update(values)
        random.restore()
        for module, was_training in modes:
            module.training = was_training


def _plain_values(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}


def _state_tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
