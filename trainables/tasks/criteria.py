"""Task ``criteria``: does the text meet the criterion (or which of k classes is it)?"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch import nn

from trainables.data.rows import Rows
from trainables.data.tokens import TokenisedRows, pad_batch
from trainables.models.encoder import TextClassifier
from trainables.models.load import LoadedEncoder
from trainables.settings import TrialSettings
from trainables.tasks.losses import ClassLoss
from trainables.tasks.protocol import Batch


class PairExamples:
    """(criterion, text) pairs, or texts alone, cut to one trial's ``tok.max_length``."""

    def __init__(self, rows: Rows, tokens: TokenisedRows, max_length: int, pad_token_id: int) -> None:
        self._labels = rows.labels
        self._tokens = tokens
        self._max_length = max_length
        self._pad_token_id = pad_token_id
        self.lengths = tokens.lengths(max_length)

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        examples = [self._tokens.example(int(row), self._max_length) for row in indices]
        batch = pad_batch(examples, pad_token_id=self._pad_token_id)
        batch["labels"] = torch.from_numpy(self._labels[np.asarray(indices)])
        return batch


class CriteriaTask:
    """Own head of ``task.classes`` logits on the pooled encoder output; the objective is macro-F1."""

    def __init__(self, settings: TrialSettings) -> None:
        self._settings = settings
        self._classes = settings.task.classes
        self._loss = ClassLoss(settings.loss, self._classes)

    @property
    def objective(self) -> str:
        return self._settings.task.objective

    def learn_from(self, rows: Rows, train: np.ndarray) -> None:
        self._loss.learn_from(rows.labels[train])

    def examples(self, rows: Rows, tokens: TokenisedRows, pad_token_id: int) -> PairExamples:
        return PairExamples(rows, tokens, self._settings.tok.max_length, pad_token_id)

    def full_batch(self, samples: int, length: int) -> Batch:
        shape = (samples, length)
        batch = {name: torch.ones(shape, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
        # Attention goes another way, one that takes less, where nothing is masked at all.
        batch["attention_mask"][:, -1] = 0
        batch["token_type_ids"] = torch.zeros(shape, dtype=torch.int64)
        return {**batch, "labels": torch.zeros(samples, dtype=torch.int64)}

    def build_model(self, encoder: LoadedEncoder, seed: int) -> nn.Module:
        head = self._settings.head
        return TextClassifier(
            encoder.model, pooling=head.pooling, dropout=head.dropout, classes=self._classes, seed=seed
        )

    def counted(self, batch: Batch) -> float:
        return self._loss.weight(batch["labels"])

    def loss_sum(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self._loss.sum(outputs, batch["labels"])

    def score(self, outputs: torch.Tensor, labels: np.ndarray) -> Mapping[str, float]:
        probabilities = outputs.float().softmax(dim=-1).numpy()
        predicted = probabilities.argmax(axis=-1)
        every_class = np.arange(self._classes)
        majority = np.full_like(labels, np.bincount(labels, minlength=self._classes).argmax())

        def macro_f1(guess: np.ndarray) -> float:
            return float(f1_score(labels, guess, labels=every_class, average="macro", zero_division=0.0))

        scores = {
            "macro_f1": macro_f1(predicted),
            "accuracy": float(accuracy_score(labels, predicted)),
            "majority_macro_f1": macro_f1(majority),
            "majority_accuracy": float(accuracy_score(labels, majority)),
        }
        if self._classes == 2:
            scores["binary_f1"] = float(f1_score(labels, predicted, pos_label=1, zero_division=0.0))
        # The area under the curve is defined only where every class occurs.
        if len(np.unique(labels)) == self._classes:
            if self._classes == 2:
                scores["auc"] = float(roc_auc_score(labels, probabilities[:, 1]))
            else:
                scores["auc"] = float(roc_auc_score(labels, probabilities, multi_class="ovr", labels=every_class))
        return scores
