"""Live table: it fits its terminal and shows the important trials first."""

import io
from pathlib import Path

import pytest

from search_spaces.space import parse_space
from tune_app.console import Console
from tune_app.outcomes import Outcome
from tune_app.progress.live_table import LiveTable, search_view
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course
from tune_app.study.store import StudyStore, open_study
from tune_app.voice import Voice

TRIALS = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    """Return a study of 40 trials, of which every tenth runs. Of the others the ninth is the best, then the first."""
    space = parse_space({"optim.lr": {"low": 0.1, "high": 0.9}, "head.pooling": {"choices": ["cls", "mean"]}})
    record = StudyRecord(space, "criteria", "macro_f1", "max", "data", fixed={"train.epochs": 4})
    store = open_study(tmp_path_factory.mktemp("live"), "x", None, record)
    store.set_target(60)
    for number in range(TRIALS):
        store.open_trial({"optim.lr": 0.1 + number / 100, "head.pooling": "cls"}, {})
        store.report(number, 1, number / 100)
        if number % 10:
            value = 0.9 if number == 9 else (TRIALS - number) / 100
            attributes = {"working_s": 10.0, "metrics": {"majority_macro_f1": 0.25}}
            store.close_trial(number, Outcome.COMPLETE, value=value, attributes=attributes)
    return store


def drawn(store: StudyStore, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(search_view(store, [], Course(4, slots=4), most=height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 30), (120, 50), (80, 12), (200, 24), (60, 8), (40, 5), (80, 2)])
def test_it_fits_any_terminal(width: int, height: int, store: StudyStore) -> None:
    lines = drawn(store, width, height)
    assert 0 < len(lines) < height
    assert max(map(len, lines)) <= width
    assert "left; 40 of 60 launched" in " ".join(lines[:2])


def test_the_summary_is_on_top_then_the_running_the_newest_and_the_best(store: StudyStore) -> None:
    lines = [line.rstrip() for line in drawn(store, 80, 30)]
    assert lines[1] == "best macro_f1 0.9000 (trial 9), of 36 complete; baseline 0.2500"
    first = [line.split()[0] for line in lines[2:]]
    assert first[:6] == ["trial", "0", "10", "20", "30", "newest"]
    assert first[6:9] == ["39", "38", "37"]
    assert first[first.index("best") :] == ["best", "9", "1", "2", "3", "4"]
    assert "pooling" not in " ".join(lines), "all trials have the same"
    assert "lr=0.19" in lines[3 + first[1:].index("9")]


def test_many_running_trials_are_counted_where_they_do_not_fit(store: StudyStore) -> None:
    assert drawn(store, 120, 6)[-1].split() == ["and", "3", "more", "running"]


def test_a_table_is_drawn_anew_where_the_terminal_has_become_narrower(store: StudyStore, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100, height=20, force_terminal=True)
    assert isinstance(console.file, io.StringIO)
    clear = "\x1b[2J"
    with LiveTable(Voice(console), store, Course(4)) as table:
        table.step([])
        assert clear not in console.file.getvalue()
        console.size = (60, 10)
        table._last_drawn = 0.0
        table.step([])
        assert clear in console.file.getvalue()


def test_rows_are_built_for_the_trials_that_a_terminal_may_show(store: StudyStore) -> None:
    assert len(search_view(store, [], Course(4), most=10).newest) < 20 < len(store.trials())
