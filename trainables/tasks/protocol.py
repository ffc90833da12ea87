"""The seam between tasks and training: what a task must say about inputs, losses and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import nn

from trainables.data.augment import AugmentedTexts
from trainables.data.rows import Rows
from trainables.data.tokens import Reading
from trainables.models.load import LoadedEncoder
from trainables.settings import TrialSettings

Batch = dict[str, torch.Tensor]


Decision = Mapping[str, float]
"""Thresholds by name, as they were tuned or fixed."""


class Examples(Protocol):
    """Rows made ready for one trial: inputs of the model, one or several to a row, with known lengths."""

    def __len__(self) -> int:
        """How many inputs there are."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per input, special tokens included: int array (inputs,)."""
        ...

    @property
    def counts(self) -> np.ndarray:
        """Inputs of each row: int array (rows,)."""
        ...

    def inputs_of(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of all inputs of these rows, row by row."""
        ...

    def batch(self, inputs: Sequence[int] | np.ndarray) -> Batch:
        """The inputs padded to the longest of them, what they are to be held against included."""
        ...

    def with_texts(self, texts: Sequence[AugmentedTexts]) -> Self:
        """The same inputs, none of them longer, with other texts: those of each reading as they are told now."""
        ...


@dataclass(frozen=True)
class Scores:
    """What a model is worth on one part of the data.

    Attributes:
        metrics: by name, the objective among them.
        decision: by which the answers were chosen.
        by_criterion: criterion → name → value, of those with the most rows; empty where texts stand alone.
        collapsed: whether every row got the same answer, although that is not the truth.
    """

    metrics: Mapping[str, float]
    decision: Decision = field(default_factory=dict)
    by_criterion: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    collapsed: bool = False


class Task(Protocol):
    """One task. Training and evaluation know it only through this."""

    def __init__(self, settings: TrialSettings) -> None: ...

    def learn_from(self, rows: Rows, train: np.ndarray) -> None:
        """Take from the training part, row numbers (n,), what the loss depends on, such as how often classes occur."""
        ...

    def examples(self, rows: Rows, readings: Sequence[Reading]) -> Examples:
        """The rows as inputs, as each of the encoders reads them. What ``score`` is given is of these rows."""
        ...

    def full_batch(self, samples: int, length: int) -> Batch:
        """Inputs without content that fill ``length`` tokens, as ``Examples.batch`` gives them: the worst case."""
        ...

    def build_model(self, encoders: Sequence[LoadedEncoder], seed: int) -> nn.Module:
        """Encoders and heads. Nothing but the heads is freshly initialised, from ``seed`` alone."""
        ...

    def counted(self, batch: Batch) -> float:
        """How much the batch weighs in the loss: the number of counted samples, or their weights' sum."""
        ...

    def loss_sum(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Loss summed over the counted samples: a scalar.

        Training divides by ``counted`` of the whole effective batch, so the gradient does not depend on the split.
        """
        ...

    def kept(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """What is kept of an evaluation pass, (inputs, k) in fp32 with the same k for every pass."""
        ...

    def score(self, kept: torch.Tensor, rows: np.ndarray, decision: Decision | None = None) -> Scores:
        """How good the answers are.

        Args:
            kept: of all inputs of the rows in their order, (inputs, k), on the CPU.
            rows: the part that is scored, (rows,).
            decision: thresholds that were chosen on another part; None chooses them on this one, or takes those that
                are fixed.
        """
        ...
