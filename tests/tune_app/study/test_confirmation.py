"""Record of a confirmation: its form, and the lines that exports and status show."""

import json
from pathlib import Path
from typing import Any

import pytest

from tune_app.errors import UserError
from tune_app.study.confirmation import (
    Confirmation,
    ConfirmedCandidate,
    Paired,
    TestFigure,
    TestPart,
    confirmation_line,
    ranking_line,
    read_confirmation,
)


def candidate(number: int | None, **changes: Any) -> ConfirmedCandidate:
    values: dict[str, Any] = {
        "role": "leader",
        "params": {"optim.lr": 1e-3},
        "search_value": 0.91,
        "standing": "winner",
        "values": [0.9, 0.89],
        "corrected": [0.88, 0.87],
        "mean": 0.895,
        "interval": (0.89, 0.9),
        "p_best": 0.8,
    }
    return ConfirmedCandidate(number=number, **{**values, **changes})


def confirmation(winner: int | None = 7, **changes: Any) -> Confirmation:
    values: dict[str, Any] = {
        "study": "demo",
        "metric": "macro_f1",
        "seeds": 2,
        "folds": None,
        "winner_params": {"optim.lr": 1e-3},
        "ties": [3],
        "candidates": [candidate(winner), candidate(3, compared=Paired(0.01, 0.01, 0.2, "t", 2), standing="tie")],
        "expected_value": 0.894,
        "expected_interval": (0.86, 0.93),
        "is_clear": False,
        "data_fingerprint": "f" * 64,
        "test": TestPart(
            winner, 0.889, (0.86, 0.91), 2, 0.44, "2026-11-28T12:00:00+00:00", TestFigure(3, 0.8, (0.7, 0.9), 2), 0.089
        ),
    }
    return Confirmation(winner=winner, **{**values, **changes})


def test_the_file_holds_the_contract_and_is_read_back(tmp_path: Path) -> None:
    written = confirmation()
    stored = json.loads(written.write(tmp_path).read_text())
    assert {"study", "metric", "seeds", "winner", "ties", "candidates", "expected_value", "test"} <= stored.keys()
    first = stored["candidates"][0]
    assert {"number", "role", "search_value", "values", "mean", "interval", "p_best"} <= first.keys()
    assert (stored["winner"], stored["ties"], stored["seeds"]) == (7, [3], 2)
    assert {"value", "interval", "baseline"} <= stored["test"].keys()
    assert read_confirmation(tmp_path) == written


@pytest.mark.parametrize("content", ["{", "[]", '{"study": "demo"}', '{"test": 3, "candidates": 4}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "confirm.json").write_text(content)
    with pytest.raises(UserError, match=r"confirm.json: cannot be read .*; remove it, and run headroom confirm again"):
        read_confirmation(tmp_path)


def test_a_study_without_the_file_is_not_confirmed(tmp_path: Path) -> None:
    assert read_confirmation(tmp_path) is None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (confirmation(), "confirmed: trial 7, macro_f1 0.8940 expected (2 seeds); 0.8890 on test"),
        (
            confirmation(None, test=None, folds=5),
            "confirmed: the recommended configuration, macro_f1 0.8940 expected (5 folds)",
        ),
    ],
)
def test_a_line_tells_the_winner_and_what_to_expect(given: Confirmation, line: str) -> None:
    assert confirmation_line(given) == line


def test_an_export_says_which_ranking_it_uses() -> None:
    assert "ranked by the search alone; headroom confirm demo" in ranking_line(None, "demo", 7)
    assert ranking_line(confirmation(), "demo", 3).endswith(
        "trial 7, macro_f1 0.8940 expected (2 seeds); 0.8890 on test"
    )
    assert ranking_line(confirmation(), "demo", 9).endswith("; trial 9 leads the search since, so confirm again")
