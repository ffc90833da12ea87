"""The criteria task: its metrics on cases worked out by hand and by scikit-learn, its loss, its batches."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TaskSettings, TrialSettings
from trainables.tasks import TASKS
from trainables.tasks.protocol import Task
from trainables.training.session import TrainingSession


def task(classes: int) -> Task:
    return TASKS["criteria"](TrialSettings(DataSettings("demo"), trial_seeds(0), task=TaskSettings(classes=classes)))


def logits(*positive: float) -> torch.Tensor:
    """Two-class logits that give these probabilities of class 1."""
    probabilities = torch.tensor(positive)
    return torch.stack([1 - probabilities, probabilities], dim=1).log()


def test_two_classes_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    scores = task(2).score(logits(0.1, 0.2, 0.6, 0.3, 0.7, 0.4), labels)
    # Class 1: one of two found, one false alarm, F1 1/2. Class 0: three of four, one too many, F1 3/4.
    assert scores == pytest.approx(
        {
            "macro_f1": 5 / 8,
            "accuracy": 4 / 6,
            "binary_f1": 1 / 2,
            "auc": 7 / 8,  # Of the eight pairs of a positive and a negative one is in the wrong order: 0.4 and 0.6.
            "majority_macro_f1": 0.4,  # Class 0 for all: F1 0.8 and 0.
            "majority_accuracy": 4 / 6,
        }
    )


def test_three_classes_as_scikit_learn_has_them() -> None:
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 3, size=60)
    outputs = torch.from_numpy(draw.normal(size=(60, 3)) + 1.5 * np.eye(3)[labels]).float()
    predicted = outputs.argmax(dim=1).numpy()
    scores = task(3).score(outputs, labels)
    majority = np.bincount(labels).argmax()
    assert scores == pytest.approx(
        {
            "macro_f1": f1_score(labels, predicted, average="macro"),
            "accuracy": accuracy_score(labels, predicted),
            "auc": roc_auc_score(labels, outputs.softmax(dim=1).numpy(), multi_class="ovr"),
            "majority_macro_f1": f1_score(labels, np.full(60, majority), average="macro", zero_division=0.0),
            "majority_accuracy": (labels == majority).mean(),
        }
    )


def test_a_class_that_nobody_has_and_nobody_guesses_counts_as_not_found() -> None:
    outputs = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    assert task(3).score(outputs, np.array([0, 1]))["macro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("classes", "labels"), [(2, [0, 0, 0]), (2, [1, 1, 1]), (3, [0, 2, 2])])
def test_there_is_no_area_under_the_curve_where_a_class_is_absent(classes: int, labels: list[int]) -> None:
    scores = task(classes).score(torch.randn(3, classes), np.array(labels))
    assert "auc" not in scores
    assert all(math.isfinite(score) for score in scores.values())


def test_the_objective_is_among_the_scores_and_its_best_is_one() -> None:
    scores = task(2).score(logits(0.1, 0.9), np.array([0, 1]))
    assert task(2).objective == "macro_f1"
    assert scores["macro_f1"] == scores["binary_f1"] == scores["accuracy"] == scores["auc"] == 1.0


def test_the_loss_is_summed_over_rows_in_fp32() -> None:
    outputs, batch = torch.randn(5, 2), {"labels": torch.tensor([0, 1, 1, 0, 1])}
    loss = task(2).loss_sum(outputs.bfloat16(), batch)
    expected = -outputs.bfloat16().float().log_softmax(dim=1)[torch.arange(5), batch["labels"]].sum()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    assert task(2).counted(batch) == 5.0


def test_a_batch_is_padded_to_its_longest_row_and_carries_the_labels(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(settings)
    examples, rows = session.examples, np.array([7, 2, 30])
    batch = examples.batch(rows)
    assert batch["input_ids"].shape == (3, examples.lengths[rows].max())
    assert batch["attention_mask"].sum(dim=1).tolist() == examples.lengths[rows].tolist()
    assert batch["labels"].tolist() == session.inputs.rows.labels[rows].tolist()
    assert examples.lengths.max() <= settings.tok.max_length
    assert len(examples) == len(session.inputs.rows) == len(examples.lengths)
