"""Feeding: effective batch by effective batch, the same from this process as from others."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.settings import TrialSettings, with_params
from trainables.training.loader import stream_batches
from trainables.training.session import TrainingSession


def test_batches_come_as_planned(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    examples = session_of(settings).examples
    plan = [[np.array([3, 1]), np.array([2])], [np.array([0])]]
    streamed = list(stream_batches(examples, plan, num_workers=0, pin_memory=False))
    assert [len(effective_batch) for effective_batch in streamed] == [2, 1]
    for rows, batch in zip((rows for batch in plan for rows in batch), sum(streamed, []), strict=True):
        expected = examples.batch(rows)
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_processes_that_pad_ahead_change_nothing(
    builtin_settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    # With dropout: neither the batches nor the random state may differ.
    here, ahead = (
        [
            session.train_epoch()
            for session in [session_of(with_params(builtin_settings, {"data.num_workers": workers}))]
        ]
        for workers in (0, 2)
    )
    assert here == ahead
