"""Loading batches: one effective batch after another, the same from this process as from others."""

import multiprocessing
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import pytest
import torch

from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
from trainables.training.loader import stream_batches


def test_batches_come_as_planned(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    examples = session_of(settings).examples
    plan = [[np.array([3, 1]), np.array([2])], [np.array([0])]]
    streamed = list(stream_batches(examples, plan, num_workers=0, pin_memory=False))
    assert [len(effective_batch) for effective_batch in streamed] == [2, 1]
    for rows, batch in zip(chain(*plan), chain(*streamed), strict=True):
        expected = examples.batch(rows)
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


pads_ahead = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pads_ahead
def test_processes_that_pad_ahead_change_nothing(
    builtin_settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    # With dropout, both the batches and the random state must be equal.
    here, ahead = (
        session_of(with_params(builtin_settings, {"data.num_workers": workers})).train_epoch() for workers in (0, 2)
    )
    assert here == ahead


@pads_ahead
def test_processes_that_pad_ahead_end_with_an_epoch_that_fails(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    examples = session_of(settings).examples
    stream: Iterator[object] = stream_batches(examples, [[np.arange(8)]] * 9, num_workers=2, pin_memory=False)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    del stream
    assert multiprocessing.active_children() == []


@pads_ahead
def test_batches_padded_ahead_take_no_shared_memory(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    examples = session_of(settings).examples
    (batch,) = next(stream_batches(examples, [[np.arange(8)]], num_workers=1, pin_memory=False))
    expected = examples.batch(np.arange(8))
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert not any(tensor.is_shared() for tensor in batch.values())
