"""The seam between tasks and training: what a task must say about inputs, losses and scores."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from trainables.data.rows import Rows
from trainables.data.tokens import TokenisedRows
from trainables.models.load import LoadedEncoder
from trainables.settings import TrialSettings

Batch = dict[str, torch.Tensor]


class Examples(Protocol):
    """Rows made ready for one trial: indexable by row number, with known lengths."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, special tokens included: int array (rows,)."""
        ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The rows padded to the longest of them, labels included."""
        ...


class Task(Protocol):
    """One task. Training and evaluation know it only through this."""

    def __init__(self, settings: TrialSettings) -> None: ...

    @property
    def objective(self) -> str:
        """Name of the metric that a search improves by default (larger is better)."""
        ...

    def learn_from(self, rows: Rows, train: np.ndarray) -> None:
        """Take from the training part, row numbers (n,), what the loss depends on, such as how often classes occur."""
        ...

    def examples(self, rows: Rows, tokens: TokenisedRows, pad_token_id: int) -> Examples: ...

    def full_batch(self, samples: int, length: int) -> Batch:
        """Samples without content that fill ``length`` tokens, as ``Examples.batch`` gives them: the worst case."""
        ...

    def build_model(self, encoder: LoadedEncoder, seed: int) -> nn.Module:
        """Encoder and head. Nothing but the head is freshly initialised, from ``seed`` alone."""
        ...

    def counted(self, batch: Batch) -> float:
        """How much the batch weighs in the loss: the number of counted samples, or their weights' sum."""
        ...

    def loss_sum(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Loss summed over the counted samples: a scalar.

        Training divides by ``counted`` of the whole effective batch, so the gradient does not depend on the split.
        """
        ...

    def score(self, outputs: torch.Tensor, labels: np.ndarray) -> Mapping[str, float]:
        """Metrics by name, the objective among them.

        Args:
            outputs: the model's outputs for the part that is scored, on the CPU, in row order.
            labels: (rows,) of the same part.
        """
        ...
