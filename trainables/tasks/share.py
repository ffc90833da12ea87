"""Task ``share``: whether the text meets the criterion, and which words show it, with one encoder and both heads."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.rows import Rows
from trainables.data.tokens import Reading
from trainables.models.load import LoadedEncoder
from trainables.models.shared import SharedModel
from trainables.reports import BY_CRITERION
from trainables.settings import TrialSettings
from trainables.task_entry import CLASS, SPAN
from trainables.tasks.calibration import Choices
from trainables.tasks.criteria import class_answers, class_choices, class_scores
from trainables.tasks.evidence import SpanScorer, WindowExamples, full_windows, span_choices, span_outputs
from trainables.tasks.losses import ClassLoss, SpanLoss
from trainables.tasks.protocol import Answers, Batch, Decision, Scores
from trainables.tasks.spans import candidates, masked

Outputs = tuple[Tensor, Tensor]


class ShareTask:
    """A task that minimises a weighted sum of both losses; the objective is the mean of macro-F1 and exact match.

    ``task.criteria_weight`` is the share of the criteria's loss in the sum. Every window of a row predicts the row's
    class, and their probabilities are averaged.
    """

    def __init__(self, settings: TrialSettings) -> None:
        self._settings = settings
        self._classes = settings.task.count
        self._criteria_loss = ClassLoss(settings.loss, self._classes)
        self._span_loss = SpanLoss(settings.loss)
        self._rows: Rows | None = None
        self._examples: WindowExamples | None = None
        self._scorer: SpanScorer | None = None

    def learn_from(self, rows: Rows, train: np.ndarray) -> None:
        self._criteria_loss.learn_from(rows.labels[train])
        self._span_loss.learn_from(rows.evidence[train, 0] >= 0)

    def examples(self, rows: Rows, readings: Sequence[Reading]) -> WindowExamples:
        examples = self._made_examples(rows, readings)
        self._rows, self._examples = rows, examples
        self._scorer = SpanScorer(rows, examples, self._settings.task)
        return examples

    def _made_examples(self, rows: Rows, readings: Sequence[Reading]) -> WindowExamples:
        return WindowExamples(rows, readings[0], self._settings.tok)

    def full_batch(self, samples: int, length: int) -> Batch:
        return full_windows(samples, length)

    def build_model(self, encoders: Sequence[LoadedEncoder], seed: int) -> nn.Module:
        (encoder,) = encoders
        return SharedModel(encoder.model, classes=self._classes, head=self._settings.head, seed=seed)

    def counted(self, batch: Batch) -> float:
        """Return the number of rows, without class weights: each loss is normalised to a mean weight of 1 per row."""
        return float(batch["weight"].sum())

    def loss_sum(self, outputs: Outputs, batch: Batch) -> Tensor:
        logits, spans = outputs
        share = self._settings.task.criteria_weight
        criteria = self._criteria_loss.sum(logits, batch["labels"], batch["weight"])
        scores = masked(spans, batch["text_at"], batch["text_tokens"])
        return share * criteria + (1 - share) * self._span_loss.sum(scores, batch["span"], batch["weight"])

    def outputs_to_score(self, outputs: Outputs, batch: Batch) -> Tensor:
        logits, spans = outputs
        of_spans = candidates(spans, batch["text_at"], batch["text_tokens"], self._settings.task.n_best)
        return torch.cat([logits.float(), of_spans], dim=1)

    def score(
        self, outputs: Tensor, rows: np.ndarray, decision: Decision | None = None, *, breakdowns: bool = True
    ) -> Scores:
        assert self._rows is not None, "examples come first"
        assert self._examples is not None
        assert self._scorer is not None
        named = self._rows.criteria if breakdowns else None
        criteria = None if named is None else [named[row] for row in rows]
        logits = row_logits(outputs[:, : self._classes], self._examples.counts[rows])
        classes = class_scores(logits, self._rows.labels[rows], criteria, decision, self._settings.task)
        spans = self._scorer.score(outputs[:, self._classes :], rows, decision, breakdowns=breakdowns)
        return both(classes, spans)

    def answers(self, outputs: Tensor, rows: np.ndarray, decision: Decision) -> Answers:
        assert self._scorer is not None, "examples come first"
        assert self._examples is not None
        logits = row_logits(outputs[:, : self._classes], self._examples.counts[rows])
        spans = self._scorer.spans(outputs[:, self._classes :], rows, decision)
        return replace(class_answers(logits, decision), spans=spans)

    def outputs_to_calibrate(self, outputs: Outputs, batch: Batch) -> Tensor:
        logits, spans = outputs
        return torch.cat([logits.float(), span_outputs(spans, batch, self._settings.tok)], dim=1)

    def choices(self, outputs: Tensor, rows: np.ndarray) -> dict[str, Choices]:
        assert self._rows is not None, "examples come first"
        assert self._examples is not None
        logits, spans = outputs[:, : self._classes], outputs[:, self._classes :]
        return {
            CLASS: class_choices(logits, self._rows.labels[rows], self._examples.counts[rows]),
            SPAN: span_choices(spans, rows, self._examples),
        }


def row_logits(logits: Tensor, counts: Sequence[int] | np.ndarray) -> Tensor:
    """Return log-probabilities (rows, classes) of the probabilities' means over each row's windows.

    Args:
        logits: (inputs, classes), with the windows of a row in sequence.
        counts: number of windows of each row.
    """
    probabilities = logits.float().softmax(dim=1)
    per_row = [window.mean(dim=0) for window in probabilities.split([int(count) for count in counts])]
    return torch.stack(per_row).clamp(min=torch.finfo(torch.float32).tiny).log()


def both(classes: Scores, spans: Scores) -> Scores:
    """Return both parts' scores together, and the mean of macro-F1 and exact match as ``mean_score``.

    ``majority_empty_mean_score`` belongs to a baseline that always predicts the most frequent class and no words.
    """
    mean = (classes.metrics["macro_f1"] + spans.metrics["exact_match"]) / 2
    blind = (classes.metrics["majority_macro_f1"] + spans.metrics["empty_exact_match"]) / 2
    of_classes, of_spans = (scores.breakdowns.get(BY_CRITERION, {}) for scores in (classes, spans))
    by_criterion = {name: {**own, **of_spans.get(name, {})} for name, own in of_classes.items()}
    return Scores(
        metrics={"mean_score": mean, "majority_empty_mean_score": blind, **classes.metrics, **spans.metrics},
        decision={**classes.decision, **spans.decision},
        breakdowns={**classes.breakdowns, **spans.breakdowns, **({BY_CRITERION: by_criterion} if by_criterion else {})},
        collapsed=classes.collapsed or spans.collapsed,
    )
