"""Evaluation of a model on a part of the data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables.devices.counting import uncounted
from trainables.devices.device import MemoryDevice
from trainables.devices.errors import OutOfMemory
from trainables.tasks.protocol import Batch, Examples, Task
from trainables.training.precision import autocast
from trainables.training.step import to_device

ToKeep = Callable[[Any, Batch], torch.Tensor]


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
    to_keep: ToKeep | None = None,
) -> torch.Tensor:
    """Return what scoring needs of the outputs for ``inputs``, in their order, on the CPU in fp32: (inputs, k).

    The whole part is sorted by length, longest first. This needs little padding, and memory peaks in the first pass.
    The model keeps its mode.

    Args:
        rows_at: given the padded length of the next pass and the number of inputs left, returns how many inputs it may
            hold.
        ran_out: called when a pass ran out of memory, with the number of its inputs and their length. The pass is
            retried, so the callback must lower ``rows_at`` for them, or raise.
        to_keep: function that returns what is kept of a pass, given the model's outputs and the batch; None keeps what
            scoring needs.
    """
    keep = task.outputs_to_score if to_keep is None else to_keep
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
                outputs.append(_outputs(model, keep, batch, device.torch_device, precision))
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
    # Copy to the host once, at the end: it need not wait for the device between passes.
    by_length = torch.cat(outputs).cpu()
    restored = torch.empty_like(by_length)
    restored[torch.from_numpy(order)] = by_length
    return restored


@torch.inference_mode()
def _outputs(model: nn.Module, keep: ToKeep, batch: Batch, device: torch.device, precision: str) -> torch.Tensor:
    batch = to_device(batch, device)
    with autocast(precision, device):
        return keep(model(batch), batch)
