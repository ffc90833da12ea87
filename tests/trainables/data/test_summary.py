"""Summary of a data set: counts of its parts, baselines by hand and by scikit-learn, and standard errors."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from trainables.data.split import Development, read_development
from trainables.data.summary import RIGHT, baselines, parts_of, standard_error, validated
from trainables.settings import DataSettings, TaskSettings


def development(folder: Path, labels: str, folds: int | None = None) -> Development:
    """Return a development set of texts with these labels, one letter a class, each its own group."""
    lines = [f"text {row} a b c,{label}" for row, label in enumerate(labels)]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return read_development(DataSettings(str(folder / "rows.csv"), folds=folds), None, 0)


@pytest.mark.parametrize("folds", [None, 4])
def test_the_parts_together_are_all_rows(tmp_path: Path, folds: int | None) -> None:
    parts = parts_of(development(tmp_path, "aab" * 40, folds))
    assert [part.name for part in parts] == (
        ["training", "validation", "test"] if folds is None else ["4 folds", "test"]
    )
    assert sum(part.rows for part in parts) == sum(part.groups for part in parts) == 120
    assert sum(part.of_class for part in parts).tolist() == [80, 40]


@pytest.mark.parametrize("labels", ["ab" * 50, "aaab" * 50, "aabc" * 50])
def test_baselines_are_what_such_answers_score(tmp_path: Path, labels: str) -> None:
    found = development(tmp_path, labels)
    truth = found.rows.labels[validated(found)]
    classes = len(found.rows.class_names)
    always, guessed = baselines(TaskSettings(classes=classes), found).items()
    constant = f1_score(truth, np.zeros_like(truth), average="macro", zero_division=0.0)
    assert always == ("always 'a'", pytest.approx(constant))
    draw = np.random.default_rng(0)
    drawn = [f1_score(truth, draw.permutation(truth), average="macro") for _ in range(500)]
    assert guessed == ("guessing by class shares", pytest.approx(np.mean(drawn), abs=0.02))


def test_the_baseline_of_spans_is_finding_none(tmp_path: Path) -> None:
    found = development(tmp_path, "ab" * 50)
    assert baselines(TaskSettings(name="evidence"), found) == {"finding nothing anywhere": 1.0}
    assert baselines(TaskSettings(name="share"), found)["guessing by class shares and no words"] == 0.75


@pytest.mark.parametrize("objective", ["macro_f1", "accuracy", "binary_f1"])
def test_the_standard_error_is_that_of_drawn_answers(tmp_path: Path, objective: str) -> None:
    found = development(tmp_path, "aab" * 200)
    truth = found.rows.labels[validated(found)]
    draw = np.random.default_rng(1)

    def score() -> float:
        sample = draw.choice(truth, len(truth))
        answers = np.where(draw.random(len(sample)) < RIGHT, sample, 1 - sample)
        if objective == "accuracy":
            return float((answers == sample).mean())
        return float(f1_score(sample, answers, average="macro" if objective == "macro_f1" else "binary"))

    error = standard_error(TaskSettings(objective=objective), found)
    assert error == pytest.approx(np.std([score() for _ in range(600)]), rel=0.15)


def test_four_times_the_rows_halve_the_standard_error(tmp_path: Path) -> None:
    for objective in ("macro_f1", "auc", "mean_score"):
        task = TaskSettings(name="share" if objective == "mean_score" else "criteria", objective=objective)
        few, many = (standard_error(task, development(tmp_path, "ab" * rows)) for rows in (100, 400))
        assert few / many == pytest.approx(2, rel=0.15)
