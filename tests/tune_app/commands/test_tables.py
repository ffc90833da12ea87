"""Output of the commands that show a study."""

import io
from pathlib import Path

import pytest

from search_spaces.space import parse_space
from tune_app.commands.tables import print_leaderboard
from tune_app.console import Console
from tune_app.outcomes import Outcome
from tune_app.study.record import StudyRecord
from tune_app.study.store import open_study


@pytest.mark.parametrize(
    ("task", "metric", "metrics", "expected"),
    [
        ("criteria", "macro_f1", {"majority_macro_f1": 0.4}, ["most frequent class scores 0.4000"]),
        (
            "evidence",
            "token_f1",
            {"empty_token_f1": 0.5, "first_words_token_f1": 0.02, "empty_exact_match": 0.7},
            ["no words show it scores 0.5000", "the first words scores 0.0200"],
        ),
        ("share", "mean_score", {"majority_empty_mean_score": 0.45}, ["and that no words show it, scores 0.4500"]),
    ],
)
def test_the_baselines_stand_under_the_leaderboard(
    task: str, metric: str, metrics: dict[str, float], expected: list[str], tmp_path: Path
) -> None:
    space = parse_space({"optim.lr": {"choices": [0.1, 0.2]}})
    store = open_study(tmp_path, "test", None, StudyRecord(space, task, metric, "max", "f" * 64))
    number = store.open_trial({"optim.lr": 0.1}, {})
    attributes = {"best_epoch": 1, "metrics": {metric: 0.8, **metrics}}
    store.close_trial(number, Outcome.COMPLETE, value=[0.8], attributes=attributes)
    output = io.StringIO()
    print_leaderboard(Console(file=output, width=200), store)
    below = output.getvalue().splitlines()[2:]
    assert len(below) == len(expected)
    assert all(line.endswith(end) for line, end in zip(below, expected, strict=True))
