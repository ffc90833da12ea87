"""Task ``criteria``: whether the text meets the criterion, or which of k classes it is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.data.augment import AugmentedTexts
from trainables.data.rows import Rows
from trainables.data.tokens import Reading, Texts, pad_batch
from trainables.models.encoder import TextClassifier
from trainables.models.load import LoadedEncoder
from trainables.models.native import NativeModel
from trainables.reports import BY_CRITERION, CONFUSION, Breakdown
from trainables.settings import TaskSettings, TrialSettings
from trainables.task_entry import CLASS, NATIVE
from trainables.tasks.calibration import Choices, calibration_error
from trainables.tasks.losses import ClassLoss
from trainables.tasks.protocol import Answers, Batch, Decision, Scores
from trainables.tasks.thresholds import best_cut, cuts, yes_counts

THRESHOLD = "threshold"
"""Name of the threshold for two classes: class 1 is chosen if its probability is above it."""

_EVEN = 0.5
MOST_CRITERIA = 50
"""Number of criteria with separate scores, those with the most rows first; scores of one-row criteria say little."""
MOST_CLASSES = 50
"""Number of classes up to which scores have a confusion matrix."""


class PairExamples:
    """(criterion, text) pairs, or texts alone, cut to one trial's ``tok.max_length``: one input a row."""

    def __init__(self, rows: Rows, reading: Reading, max_length: int) -> None:
        self._labels = rows.labels
        self._tokens = reading.tokens
        self._texts: Texts = reading.tokens.texts
        self._max_length = max_length
        self._pad_token_id = reading.pad_token_id
        self.lengths = reading.tokens.lengths(max_length)
        self.counts = np.ones_like(self.lengths)

    def __len__(self) -> int:
        return len(self._labels)

    def inputs_of(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def batch(self, inputs: Sequence[int] | np.ndarray) -> Batch:
        examples = [self._tokens.example(int(row), self._max_length, self._texts) for row in inputs]
        batch = pad_batch(examples, pad_token_id=self._pad_token_id)
        batch["labels"] = torch.from_numpy(self._labels[np.asarray(inputs)])
        return batch

    def with_texts(self, texts: Sequence[AugmentedTexts]) -> Self:
        (own_texts,) = texts
        augmented = copy(self)
        augmented._texts = own_texts
        augmented.lengths = self._tokens.lengths(self._max_length, own_texts)
        return augmented


class CriteriaTask:
    """A task with a head of ``task.classes`` logits on the pooled encoder output; the objective is macro-F1."""

    def __init__(self, settings: TrialSettings) -> None:
        self._settings = settings
        self._classes = settings.task.count
        self._loss = ClassLoss(settings.loss, self._classes)
        self._rows: Rows | None = None

    def learn_from(self, rows: Rows, train: np.ndarray) -> None:
        self._loss.learn_from(rows.labels[train])

    def examples(self, rows: Rows, readings: Sequence[Reading]) -> PairExamples:
        self._rows = rows
        return PairExamples(rows, readings[0], self._settings.tok.max_length)

    def full_batch(self, samples: int, length: int) -> Batch:
        return {**full_inputs(samples, length), "labels": torch.zeros(samples, dtype=torch.int64)}

    def build_model(self, encoders: Sequence[LoadedEncoder], seed: int) -> nn.Module:
        (encoder,) = encoders
        if self._settings.head.pooling == NATIVE:
            return NativeModel(encoder.model, CLASS, classes=self._classes, seed=seed)
        return TextClassifier(encoder.model, head=self._settings.head, classes=self._classes, seed=seed)

    def counted(self, batch: Batch) -> float:
        return self._loss.weight(batch["labels"])

    def loss_sum(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self._loss.sum(outputs, batch["labels"])

    def outputs_to_score(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return outputs.float()

    def score(
        self, outputs: torch.Tensor, rows: np.ndarray, decision: Decision | None = None, *, breakdowns: bool = True
    ) -> Scores:
        assert self._rows is not None, "examples come first"
        named = self._rows.criteria if breakdowns else None
        criteria = None if named is None else [named[row] for row in rows]
        return class_scores(outputs, self._rows.labels[rows], criteria, decision, self._settings.task)

    def answers(self, outputs: torch.Tensor, rows: np.ndarray, decision: Decision) -> Answers:
        return class_answers(outputs, decision)

    def outputs_to_calibrate(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return outputs.float()

    def choices(self, outputs: torch.Tensor, rows: np.ndarray) -> dict[str, Choices]:
        assert self._rows is not None, "examples come first"
        return {CLASS: class_choices(outputs, self._rows.labels[rows], np.ones_like(rows))}


def class_choices(logits: torch.Tensor, labels: np.ndarray, counts: np.ndarray) -> Choices:
    """Return the choices between classes.

    Args:
        logits: (inputs, classes).
        labels: (rows,).
        counts: number of inputs of each row, (rows,).
    """
    return Choices(logits, labels.astype(np.int64), counts, np.ones(len(labels)))


def full_inputs(samples: int, length: int) -> Batch:
    """Return encoder inputs without content that fill ``length`` tokens."""
    shape = (samples, length)
    batch = {name: torch.ones(shape, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    # Without any masked token, attention takes another code path that needs less memory.
    batch["attention_mask"][:, -1] = 0
    batch["token_type_ids"] = torch.zeros(shape, dtype=torch.int64)
    return batch


def class_answers(logits: torch.Tensor, decision: Decision) -> Answers:
    """Return classes and probabilities of logits, (rows, classes)."""
    probabilities = class_probabilities(logits)
    return Answers(chosen_classes(probabilities, decision.get(THRESHOLD, _EVEN)), probabilities)


def class_probabilities(logits: torch.Tensor) -> NDArray[np.float64]:
    """Return the probabilities of logits, (rows, classes)."""
    return logits.float().softmax(dim=-1).numpy().astype(np.float64)


def chosen_classes(probabilities: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Return the class of each row, (rows,): the likeliest, or of two the second above the threshold."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] > threshold).astype(np.int64)
    likeliest: NDArray[np.int64] = probabilities.argmax(axis=-1)
    return likeliest


def class_scores(
    logits: torch.Tensor,
    labels: np.ndarray,
    criteria: Sequence[str] | None,
    decision: Decision | None,
    settings: TaskSettings,
) -> Scores:
    """Score a choice between classes.

    Args:
        logits: (rows, classes).
        labels: (rows,).
        criteria: criterion of every row, for scores by criterion.
        decision: holds the threshold to apply; None applies the fixed one or, with ``tuned``, chooses it for macro-F1.
        settings: the names of the classes, and the threshold or ``tuned``.
    """
    # Imported here, since scikit-learn takes half a second to import and many processes score nothing.
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    classes = logits.shape[1]
    probabilities = class_probabilities(logits)
    every_class = np.arange(classes)
    used: dict[str, float] = {}
    if classes == 2:
        used[THRESHOLD] = (
            decision[THRESHOLD] if decision else _threshold(probabilities[:, 1], labels, settings.threshold)
        )
    predicted = chosen_classes(probabilities, used.get(THRESHOLD, _EVEN))

    def macro_f1(guess: np.ndarray) -> float:
        return float(f1_score(labels, guess, labels=every_class, average="macro", zero_division=0.0))

    majority = np.full_like(labels, np.bincount(labels, minlength=classes).argmax())
    scores = {
        "macro_f1": macro_f1(predicted),
        "accuracy": float(accuracy_score(labels, predicted)),
        "calibration_error": calibration_error(probabilities, labels),
        "majority_macro_f1": macro_f1(majority),
        "majority_accuracy": float(accuracy_score(labels, majority)),
        **used,
    }
    if classes == 2:
        scores["binary_f1"] = float(f1_score(labels, predicted, pos_label=1, zero_division=0.0))
    # The area under the curve is defined only if every class occurs.
    if len(np.unique(labels)) == classes:
        if classes == 2:
            scores["auc"] = float(roc_auc_score(labels, probabilities[:, 1]))
        else:
            scores["auc"] = float(roc_auc_score(labels, probabilities, multi_class="ovr", labels=every_class))
    collapsed = len(np.unique(predicted)) == 1 and len(np.unique(labels)) > 1
    breakdowns: dict[str, Breakdown] = {}
    if criteria is not None:
        breakdowns[BY_CRITERION] = _by_criterion(criteria, labels, predicted, settings.class_names)
    if classes <= MOST_CLASSES:
        breakdowns[CONFUSION] = _confusion(labels, predicted, settings.class_names)
    return Scores(scores, used, breakdowns, collapsed)


def _threshold(positive: np.ndarray, labels: np.ndarray, setting: float | str) -> float:
    if not isinstance(setting, str):
        return setting
    candidates = np.clip(cuts(positive), 0.0, 1.0)
    is_one = (labels == 1).astype(float)
    hits = yes_counts(positive, is_one, candidates)
    predicted_yes = yes_counts(positive, np.ones(len(labels)), candidates)
    ones, rows = is_one.sum(), len(labels)
    right_zeros = rows - ones - (predicted_yes - hits)
    # F1 = 2 TP / (predicted + true), and 0 for a class that neither occurs nor is predicted, as in the score itself.
    f1_one = 2 * hits / np.maximum(1, predicted_yes + ones)
    f1_zero = 2 * right_zeros / np.maximum(1, (rows - predicted_yes) + (rows - ones))
    return best_cut(candidates, (f1_one + f1_zero) / 2, _EVEN)


def _confusion(labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the number of rows by true class and predicted class, without zeros."""
    rows: dict[str, dict[str, float]] = {name: {} for name in class_names}
    for (true, guess), count in sorted(Counter(zip(labels.tolist(), predicted.tolist(), strict=True)).items()):
        rows[class_names[true]][class_names[guess]] = float(count)
    return rows


def _by_criterion(
    criteria: Sequence[str], labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> dict[str, Mapping[str, float]]:
    from sklearn.metrics import f1_score

    named = np.array(criteria, dtype=object)
    by_criterion: dict[str, Mapping[str, float]] = {}
    for criterion, rows in Counter(criteria).most_common(MOST_CRITERIA):
        chosen = named == criterion
        by_criterion[criterion] = {
            "rows": float(rows),
            **_class_counts(labels[chosen], class_names),
            "accuracy": float((labels[chosen] == predicted[chosen]).mean()),
            "macro_f1": float(f1_score(labels[chosen], predicted[chosen], average="macro", zero_division=0.0)),
        }
    return by_criterion


def _class_counts(labels: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Return the rows of each class by name; for two classes only those of the second, as ``positives``."""
    counts = np.bincount(labels, minlength=len(class_names)).astype(float).tolist()
    if len(class_names) == 2:
        return {"positives": counts[1]}
    return {f"rows_{name}": count for name, count in zip(class_names, counts, strict=True)}
