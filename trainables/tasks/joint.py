"""Task ``joint``: both questions with two encoders, where the criteria encoder's vector informs the evidence."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from torch import nn

from trainables.data.augment import AugmentedTexts
from trainables.data.rows import Rows
from trainables.data.tokens import Reading
from trainables.models.load import LoadedEncoder
from trainables.models.shared import CRITERIA_PREFIX, JointModel
from trainables.settings import TokSettings
from trainables.tasks.criteria import PairExamples, full_inputs
from trainables.tasks.evidence import WindowExamples, full_windows
from trainables.tasks.protocol import Batch
from trainables.tasks.share import ShareTask


class JointExamples(WindowExamples):
    """Windows for the evidence encoder, each with its row as an input of the criteria encoder, cut to one input."""

    def __init__(self, rows: Rows, evidence: Reading, criteria: Reading, tok: TokSettings) -> None:
        super().__init__(rows, evidence, tok)
        self._pairs = PairExamples(rows, criteria, tok.max_length)
        self._count_both()

    def _count_both(self) -> None:
        """Count both inputs by the longer length, although each encoder pads separately."""
        self.lengths = np.maximum(self.windows.lengths, self._pairs.lengths[self.windows.row])

    def batch(self, inputs: Sequence[int] | np.ndarray) -> Batch:
        pairs = self._pairs.batch(self.windows.row[np.asarray(inputs)])
        return super().batch(inputs) | _for_criteria(pairs)

    def with_texts(self, texts: Sequence[AugmentedTexts]) -> Self:
        augmented = super().with_texts(texts[:1])
        augmented._pairs = self._pairs.with_texts(texts[1:])
        augmented._count_both()
        return augmented


def _for_criteria(pairs: Batch) -> Batch:
    return {CRITERIA_PREFIX + name: tensor for name, tensor in pairs.items() if name != "labels"}


class JointTask(ShareTask):
    """The task ``share`` with separate encoders for the criteria and the evidence."""

    def full_batch(self, samples: int, length: int) -> Batch:
        return full_windows(samples, length) | _for_criteria(full_inputs(samples, length))

    def build_model(self, encoders: Sequence[LoadedEncoder], seed: int) -> nn.Module:
        evidence, criteria = encoders
        head = self._settings.head
        return JointModel(evidence.model, criteria.model, classes=self._classes, head=head, seed=seed)

    def _made_examples(self, rows: Rows, readings: Sequence[Reading]) -> WindowExamples:
        evidence, criteria = readings
        return JointExamples(rows, evidence, criteria, self._settings.tok)
