"""Criteria task: its metrics by hand and by scikit-learn, its threshold, loss and batches."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples_of
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from trainables.seeds import trial_seeds
from trainables.session import TrainingSession
from trainables.settings import DataSettings, TaskSettings, TrialSettings
from trainables.tasks import build_task
from trainables.tasks.calibration import calibration_error
from trainables.tasks.criteria import MOST_CLASSES, class_scores
from trainables.tasks.protocol import Scores, Task


def task(classes: int) -> Task:
    return build_task(TrialSettings(DataSettings("demo"), trial_seeds(0), task=TaskSettings(classes=classes)))


def scored(outputs: torch.Tensor, labels: Any, threshold: Any = 0.5, **given: Any) -> Scores:
    settings = TaskSettings(classes=outputs.shape[1], labels=given.get("names"), threshold=threshold)
    return class_scores(outputs, np.array(labels), given.get("criteria"), given.get("decision"), settings)


def logits(*positive: float) -> torch.Tensor:
    """Return two-class logits that give these probabilities of class 1."""
    probabilities = torch.tensor(positive)
    return torch.stack([1 - probabilities, probabilities], dim=1).log()


def test_two_classes_by_hand() -> None:
    scores = scored(logits(0.1, 0.2, 0.6, 0.3, 0.7, 0.4), [0, 0, 0, 0, 1, 1])
    # Class 1: one of two found, one false alarm, F1 1/2. Class 0: three of four found, one false alarm, F1 3/4.
    assert scores.metrics == pytest.approx(
        {
            "macro_f1": 5 / 8,
            "accuracy": 4 / 6,
            "binary_f1": 1 / 2,
            "auc": 7 / 8,  # One of the eight pairs of a positive and a negative is in the wrong order: 0.4 and 0.6.
            "majority_macro_f1": 0.4,  # Always class 0: F1 0.8 and 0.
            "majority_accuracy": 4 / 6,
            # Right with 0.9, 0.8, 0.7 and 0.7, the last two in one bin; wrong with 0.6 and 0.6.
            "calibration_error": (0.1 + 0.2 + 0.3 + 0.3 + 0.6 + 0.6) / 6,
            "threshold": 0.5,
        }
    )


def test_three_classes_as_scikit_learn_has_them() -> None:
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 3, size=60)
    outputs = torch.from_numpy(draw.normal(size=(60, 3)) + 1.5 * np.eye(3)[labels]).float()
    predicted = outputs.argmax(dim=1).numpy()
    scores = scored(outputs, labels, "tuned").metrics
    majority = np.bincount(labels).argmax()
    assert scores == pytest.approx(
        {
            "macro_f1": f1_score(labels, predicted, average="macro"),
            "accuracy": accuracy_score(labels, predicted),
            "auc": roc_auc_score(labels, outputs.softmax(dim=1).numpy(), multi_class="ovr"),
            "majority_macro_f1": f1_score(labels, np.full(60, majority), average="macro", zero_division=0.0),
            "majority_accuracy": (labels == majority).mean(),
            "calibration_error": scores["calibration_error"],
        }
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_the_calibration_error_is_torchmetrics(classes: int) -> None:
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, size=200)
    outputs = torch.from_numpy(draw.normal(size=(200, classes)) + np.eye(classes)[labels])
    probabilities = outputs.softmax(dim=1)
    theirs = multiclass_calibration_error(probabilities, torch.from_numpy(labels), num_classes=classes, n_bins=15)
    assert calibration_error(probabilities.numpy(), labels) == pytest.approx(float(theirs), abs=1e-6)


def test_certainty_is_calibrated_where_it_is_right_and_as_wrong_as_can_be_where_it_is_not() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert calibration_error(certain, np.array([0, 1])) == 0.0
    assert calibration_error(certain, np.array([1, 0])) == 1.0


def test_a_class_that_nobody_has_and_nobody_guesses_counts_as_not_found() -> None:
    outputs = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    assert scored(outputs, [0, 1]).metrics["macro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("classes", "labels"), [(2, [0, 0, 0]), (2, [1, 1, 1]), (3, [0, 2, 2])])
def test_there_is_no_area_under_the_curve_where_a_class_is_absent(classes: int, labels: list[int]) -> None:
    scores = scored(torch.randn(3, classes), labels, "tuned").metrics
    assert "auc" not in scores
    assert all(math.isfinite(score) for score in scores.values())


def test_the_best_score_is_one() -> None:
    scores = scored(logits(0.1, 0.9), [0, 1]).metrics
    assert scores["macro_f1"] == scores["binary_f1"] == scores["accuracy"] == scores["auc"] == 1.0


def test_a_tuned_threshold_finds_what_an_even_one_misses() -> None:
    outputs, labels = logits(0.05, 0.1, 0.3, 0.4), [0, 0, 1, 1]
    assert scored(outputs, labels, 0.5).metrics["macro_f1"] == pytest.approx(1 / 3)
    tuned = scored(outputs, labels, "tuned")
    assert tuned.metrics["macro_f1"] == 1.0
    assert tuned.decision == pytest.approx({"threshold": 0.2})


def test_a_threshold_of_another_part_is_applied_as_it_is() -> None:
    scores = scored(logits(0.05, 0.3), [1, 0], "tuned", decision={"threshold": 0.2})
    assert scores.decision == {"threshold": 0.2}
    assert scores.metrics["accuracy"] == 0.0


@examples_of(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.integers(0, 1)), min_size=1, max_size=12)
)
def test_no_threshold_does_better_than_the_tuned_one(rows: list[tuple[float, int]]) -> None:
    probabilities, labels = (np.array(column) for column in zip(*rows, strict=True))
    outputs = torch.tensor(np.stack([1 - probabilities, probabilities], axis=1)).clamp(min=1e-30).log()
    tuned = scored(outputs, labels, "tuned").metrics["macro_f1"]
    others = [scored(outputs, labels, other).metrics["macro_f1"] for other in (0.0, 0.05, 0.2, 0.3, 0.5, 0.7, 0.95)]
    assert tuned >= max(others) - 1e-9


def test_one_answer_for_all_is_called_collapsed() -> None:
    assert scored(logits(0.1, 0.2, 0.3), [0, 1, 0]).collapsed
    assert not scored(logits(0.1, 0.2, 0.6), [0, 1, 0]).collapsed
    assert not scored(logits(0.1, 0.2), [0, 0]).collapsed, "it is the truth"


def test_a_criterion_counts_the_rows_of_each_of_several_classes() -> None:
    outputs = torch.eye(3)[[0, 1, 2, 1]]
    scores = scored(outputs, [0, 1, 2, 2], "tuned", criteria=["a", "a", "a", "b"], names=("no", "perhaps", "yes"))
    assert (
        scores.breakdowns["by_criterion"]["a"] | {"rows_no": 1, "rows_perhaps": 1, "rows_yes": 1}
        == scores.breakdowns["by_criterion"]["a"]
    )
    assert scores.breakdowns["by_criterion"]["b"]["rows_yes"] == 1
    assert "positives" not in scores.breakdowns["by_criterion"]["a"], "no class of three is the positive one"


def test_every_criterion_has_its_scores() -> None:
    scores = scored(logits(0.1, 0.9, 0.9), [0, 1, 0], criteria=["sleep", "sleep", "mood"])
    assert scores.breakdowns["by_criterion"] == {
        "sleep": {"rows": 2.0, "positives": 1.0, "accuracy": 1.0, "macro_f1": 1.0},
        "mood": {"rows": 1.0, "positives": 0.0, "accuracy": 0.0, "macro_f1": 0.0},
    }


def test_rows_are_counted_by_true_and_predicted_class() -> None:
    outputs = torch.eye(3)[[0, 1, 2, 1]]
    scores = scored(outputs, [0, 1, 2, 2], names=("no", "perhaps", "yes"))
    assert scores.breakdowns == {
        "confusion": {"no": {"no": 1.0}, "perhaps": {"perhaps": 1.0}, "yes": {"perhaps": 1.0, "yes": 1.0}}
    }
    many = MOST_CLASSES + 1
    assert "confusion" not in scored(torch.eye(many), np.arange(many)).breakdowns, "the study stores it for every trial"


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
