"""Feeds padded micro-batches to the training loop, effective batch by effective batch."""

import itertools
from collections.abc import Iterator, Sequence

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
    loader: DataLoader[Batch] = DataLoader(
        _ByRows(examples),
        sampler=flat,
        batch_size=None,
        num_workers=num_workers,
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
            effective_batch = list(itertools.islice(stream, len(micro_batches)))
        yield effective_batch
