"""What a model says to a part of the data."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from trainables.memory.counting import uncounted
from trainables.memory.device import MemoryDevice
from trainables.memory.errors import OutOfMemory
from trainables.tasks.protocol import Batch, Examples, Task
from trainables.training.precision import autocast
from trainables.training.step import to_device


def predict_outputs(
    model: nn.Module,
    task: Task,
    examples: Examples,
    inputs: np.ndarray,
    *,
    device: MemoryDevice,
    rows_at: Callable[[int, int], int],
    ran_out: Callable[[OutOfMemory, int, int], None],
    precision: str,
) -> torch.Tensor:
    """What the task keeps of the outputs for ``inputs``, in their order, on the CPU in fp32: (inputs, k).

    The whole part is sorted by length first, longest first: little padding, and memory is at its highest in the first
    pass. The model is left in the mode it came in.

    Args:
        rows_at: given the tokens that the next pass is padded to and how many inputs are left, how many it may hold.
        ran_out: told when a pass ran out of memory, with the number of its inputs and their tokens; the pass is done
            again, so it must make ``rows_at`` answer less for them, or raise.
    """
    order = np.argsort(-examples.lengths[inputs], kind="stable")
    was_training = model.training
    model.eval()
    outputs: list[torch.Tensor] = []
    start = 0
    try:
        while start < len(order):
            length = int(examples.lengths[inputs[order[start]]])
            part = inputs[order[start : start + rows_at(length, len(order) - start)]]
            failure = None
            try:
                with uncounted():
                    batch = examples.batch(part)
                outputs.append(_kept(model, task, batch, device.torch_device, precision))
            except Exception as error:
                failure = OutOfMemory.of(error, device)
                if failure is None:
                    raise
            if failure is None:
                start += len(part)
            else:
                device.release()
                ran_out(failure, len(part), length)
    finally:
        model.train(was_training)
    # Brought back once, at the end: the host need not wait for the device between passes.
    by_length = torch.cat(outputs).cpu()
    restored = torch.empty_like(by_length)
    restored[torch.from_numpy(order)] = by_length
    return restored


@torch.inference_mode()
def _kept(model: nn.Module, task: Task, batch: Batch, device: torch.device, precision: str) -> torch.Tensor:
    batch = to_device(batch, device)
    with autocast(precision, device):
        return task.kept(model(batch), batch)
