"""The stream of padded micro-batches for the training loop, one effective batch at a time."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.devices.counting import uncounted
from trainables.tasks.protocol import Batch, Examples


class _ByRows(Dataset[Batch]):
    """A data set whose index is a whole micro-batch: an array of row numbers."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __getitem__(self, rows: np.ndarray) -> Batch:
        return self._examples.batch(rows)


class _Sent:
    """A batch sent through a pipe by the process that padded it.

    Tensors would go through shared memory. Containers have little of it, and a process that finds none left makes the
    loader wait forever.
    """

    # The loader's types know only lists of samples; a row here is a whole batch.
    def __init__(self, batch: Any) -> None:
        self._arrays = {name: tensor.numpy() for name, tensor in batch.items()}

    def received(self) -> Batch:
        return {name: torch.from_numpy(array) for name, array in self._arrays.items()}

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader calls the method by this name."""
        return {name: tensor.pin_memory() for name, tensor in self.received().items()}


def stream_batches(
    examples: Examples,
    plan: Sequence[Sequence[np.ndarray]],
    *,
    num_workers: int,
    pin_memory: bool,
) -> Iterator[list[Batch]]:
    """Yield each effective batch as the list of its padded micro-batches.

    Args:
        plan: for each effective batch, the row numbers of its micro-batches.
        num_workers: number of processes that pad ahead; 0 pads in this process.
        pin_memory: copy batches to page-locked memory, for faster transfer to a CUDA device.
    """
    flat = [rows for micro_batches in plan for rows in micro_batches]
    loader: DataLoader[Batch | _Sent] = DataLoader(
        _ByRows(examples),
        sampler=flat,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_Sent if num_workers else None,
        pin_memory=pin_memory,
        # A loader draws its workers' seed. It must not draw from dropout's generator, whose state may not depend on how
        # often loading restarted.
        generator=torch.Generator(),
    )
    with uncounted():
        stream = iter(loader)
    for micro_batches in plan:
        # Batches wait in the host's memory, whichever device they are for.
        with uncounted():
            effective_batch = [
                batch.received() if isinstance(batch, _Sent) else batch
                for batch in itertools.islice(stream, len(micro_batches))
            ]
        yield effective_batch
