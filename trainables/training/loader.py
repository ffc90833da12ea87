"""Feeds padded micro-batches to the training loop, effective batch by effective batch."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainables.memory.counting import uncounted
from trainables.tasks.protocol import Batch, Examples


class _ByRows(Dataset[Batch]):
    """A data set whose index is a whole micro-batch: an array of row numbers."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __getitem__(self, rows: np.ndarray) -> Batch:
        return self._examples.batch(rows)


class _Sent:
    """A batch on its way from the process that padded it, through a pipe.

    Tensors would go through shared memory. Containers have little of it, and a process that finds none left has the
    loader wait for ever.
    """

    # The loader's types know lists of samples alone; a row of ours is a whole batch.
    def __init__(self, batch: Any) -> None:
        self._arrays = {name: tensor.numpy() for name, tensor in batch.items()}

    def received(self) -> Batch:
        return {name: torch.from_numpy(array) for name, array in self._arrays.items()}

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader asks for it by this name."""
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
        plan: per effective batch, the row numbers of each of its micro-batches.
        num_workers: processes that pad ahead; 0 pads in this one.
        pin_memory: copy batches to page-locked memory, for a faster way to a CUDA device.
    """
    flat = [rows for micro_batches in plan for rows in micro_batches]
    loader: DataLoader[Batch | _Sent] = DataLoader(
        _ByRows(examples),
        sampler=flat,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_Sent if num_workers else None,
        pin_memory=pin_memory,
        # A loader draws the seed of its workers: not from the generator that dropout draws from, which must not know
        # how often loading was begun anew.
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
