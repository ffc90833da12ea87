"""A study to confirm: its trials are recorded without training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import RunConfig, parse_config
from tune_app.outcomes import RECOMMENDED_ATTRIBUTE, Outcome
from tune_app.screening.preconditions import study_record, with_classes_of_data
from tune_app.study.named import NamedStudy, open_study
from tune_app.study.run_dir import keep_config
from tune_app.study.store import StudyStore
from tune_app.study.store import open_study as open_store


class Searched:
    """Study whose trials a test records."""

    def __init__(self, config: RunConfig, store: StudyStore, run_dir: Path) -> None:
        self.config, self.store, self.run_dir = config, store, run_dir

    def complete(self, lr: float, *values: float, is_recommended: bool = False, **attributes: Any) -> int:
        mark = {RECOMMENDED_ATTRIBUTE: True} if is_recommended else {}
        number = self.store.open_trial({"optim.lr": lr, "train.batch_size": 16}, mark)
        self.store.close_trial(number, Outcome.COMPLETE, value=values, attributes={"best_epoch": 1, **attributes})
        return number

    def named(self) -> NamedStudy:
        return open_study(self.run_dir)


def searched_in(folder: Path, **changes: Any) -> Searched:
    raw: dict[str, Any] = {
        "study": {"name": "searched", "dir": str(folder / "runs")},
        "data": {"path": "demo", "max_rows": 150},
        "model": {"name": "tiny-bert"},
        "tok": {"max_length": 16},
        "train": {"epochs": 1},
        "search": {"trials": 3, "max_concurrent": 1},
        "scheduler": {"name": "none"},
        "tracking": {"enabled": False},
        "space": {
            "optim.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "train.batch_size": {"choices": [16, 32]},
        },
    }
    config = with_classes_of_data(parse_config({**raw, **changes}))
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    store = open_store(run_dir, "searched", None, study_record(config))
    store.set_target(3)
    keep_config(store, config, run_dir)
    return Searched(config, store, run_dir)


@pytest.fixture
def searched(tmp_path: Path) -> Searched:
    return searched_in(tmp_path)


@pytest.fixture
def searched_for_two(tmp_path: Path) -> Searched:
    """Return a study with two objectives."""
    return searched_in(tmp_path, search={"metric": ["macro_f1", "peak_gib"]})


@pytest.fixture
def searched_on(tmp_path: Path) -> Callable[[str], Searched]:
    """Return a function that writes rows to a file of the given name, and returns a study of them."""

    def search(name: str) -> Searched:
        rows = [f"day {row} was {('calm', 'restless')[row % 2]},{row % 2},{row // 3}" for row in range(90)]
        (tmp_path / name).write_text("\n".join(["text,label,group_id", *rows]))
        return searched_in(tmp_path, data={"path": str(tmp_path / name)})

    return search
