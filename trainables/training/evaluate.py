"""The model's outputs for a part of the data."""

import numpy as np
import torch
from torch import nn

from trainables.tasks.protocol import Examples
from trainables.training.precision import autocast
from trainables.training.step import to_device


def predict_outputs(
    model: nn.Module, examples: Examples, rows: np.ndarray, *, eval_batch: int, precision: str
) -> torch.Tensor:
    """Outputs for ``rows`` in their order, on the CPU in fp32: (rows, …).

    The whole part is sorted by length first, longest first: little padding, and memory is at its highest in the first
    pass. The model is left in the mode it came in.
    """
    device = next(model.parameters()).device
    order = np.argsort(-examples.lengths[rows], kind="stable")
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(precision, device):
            outputs = [
                model(to_device(examples.batch(rows[order[start : start + eval_batch]]), device)).float()
                for start in range(0, len(rows), eval_batch)
            ]
    finally:
        model.train(was_training)
    # Brought back once, at the end: the host need not wait for the device between passes.
    by_length = torch.cat(outputs).cpu()
    restored = torch.empty_like(by_length)
    restored[torch.from_numpy(order)] = by_length
    return restored
