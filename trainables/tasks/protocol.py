"""The interface between tasks and training: what a task provides for inputs, losses and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.data.augment import AugmentedTexts
from trainables.data.rows import Rows
from trainables.data.tokens import Reading
from trainables.models.load import LoadedEncoder
from trainables.reports import Breakdowns
from trainables.settings import TrialSettings

Batch = dict[str, torch.Tensor]


Decision = Mapping[str, float]
"""Thresholds by name, tuned or fixed."""


class Examples(Protocol):
    """Rows prepared for one trial: inputs of the model, one or several per row, with known lengths."""

    def __len__(self) -> int:
        """Return the number of inputs."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per input, special tokens included: int array (inputs,)."""
        ...

    @property
    def counts(self) -> np.ndarray:
        """Number of inputs of each row: int array (rows,)."""
        ...

    def inputs_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the numbers of all inputs of these rows, row by row."""
        ...

    def batch(self, inputs: Sequence[int] | np.ndarray) -> Batch:
        """Return the inputs, padded to the longest of them, together with their targets."""
        ...

    def with_texts(self, texts: Sequence[AugmentedTexts]) -> Self:
        """Return the same inputs, none of them longer, with each reading's augmented texts."""
        ...


@dataclass(frozen=True)
class Scores:
    """The scores of a model on one part of the data.

    Attributes:
        metrics: values by name, the objective among them.
        decision: thresholds that chose the answers.
        breakdowns: scores of parts of the rows, such as those of every criterion.
        collapsed: whether every row got the same answer although the true answers differ.
    """

    metrics: Mapping[str, float]
    decision: Decision = field(default_factory=dict)
    breakdowns: Breakdowns = field(default_factory=dict)
    collapsed: bool = False


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers to rows; fields of questions that the task does not ask are None.

    Attributes:
        classes: the chosen class of each row, (rows,).
        probabilities: (rows, classes).
        spans: the first character of each row's span and the one after its last, counted in its text, (rows, 2); -1 and
            -1 for no span.
    """

    classes: NDArray[np.int64] | None = None
    probabilities: NDArray[np.float64] | None = None
    spans: NDArray[np.int64] | None = None


class Task(Protocol):
    """A task. Training and evaluation use it only through this interface."""

    def __init__(self, settings: TrialSettings) -> None: ...

    def learn_from(self, rows: Rows, train: np.ndarray) -> None:
        """Read from the training part, row numbers (n,), what the loss depends on, such as class frequencies."""
        ...

    def examples(self, rows: Rows, readings: Sequence[Reading]) -> Examples:
        """Return the rows as inputs for each of the encoders; later calls of ``score`` refer to these rows."""
        ...

    def full_batch(self, samples: int, length: int) -> Batch:
        """Return inputs without content that fill ``length`` tokens, as ``Examples.batch`` does: the worst case."""
        ...

    def build_model(self, encoders: Sequence[LoadedEncoder], seed: int) -> nn.Module:
        """Build a model of encoders and heads; only the heads are freshly initialised, from ``seed`` alone."""
        ...

    def counted(self, batch: Batch) -> float:
        """Return the batch's weight in the loss: the number of counted samples, or the sum of their weights."""
        ...

    def loss_sum(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the counted samples: a scalar.

        Training divides it by ``counted`` of the whole effective batch, so the gradient does not depend on the split.
        """
        ...

    def outputs_to_score(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Return what scoring needs of an evaluation pass, (inputs, k) in fp32 with the same k for every pass."""
        ...

    def score(
        self, outputs: torch.Tensor, rows: np.ndarray, decision: Decision | None = None, *, breakdowns: bool = True
    ) -> Scores:
        """Return the scores of the answers.

        Args:
            outputs: outputs of ``outputs_to_score`` for all inputs of the rows in their order, (inputs, k), on the CPU.
            rows: row numbers of the part to score, (rows,).
            decision: thresholds that were chosen on another part; None chooses them on this part, or uses the fixed
                ones.
            breakdowns: score parts of the rows, too, which takes most of the time.
        """
        ...

    def answers(self, outputs: torch.Tensor, rows: np.ndarray, decision: Decision) -> Answers:
        """Return the answers themselves, chosen with the thresholds of ``decision``; the labels are not read.

        Args:
            outputs, rows: as for ``score``.
            decision: a threshold that it lacks has no preference.
        """
        ...
