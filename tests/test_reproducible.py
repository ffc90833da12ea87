"""Searches with one seed and one trial at a time: the same trials and values, whenever and wherever they run."""

import io
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.experiment import run_search
from tune_app.study.store import load_study

pytestmark = pytest.mark.slow


def searched(folder: Path, seed: int, trials: int = 12) -> list[tuple[dict[str, Any], dict[int, float]]]:
    config = parse_config(
        {
            "study": {"name": "twice", "dir": str(folder)},
            "data": {"path": "demo", "max_rows": 120},
            "model": {"name": "tiny-bert"},
            "tok": {"max_length": 32},
            "train": {"epochs": 2},
            "search": {"trials": trials, "seed": seed},
            # Trials that wait for each other at a rung each take another worker, which costs far more than the trial.
            "scheduler": {"name": "none"},
            "tracking": {"enabled": False},
            "space": {
                "model.name": {"choices": ["tiny-bert", "tiny-roberta"]},
                "train.batch_size": {"low": 16, "high": 64, "step": 16},
                "optim.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            },
        }
    )
    run_search(config, console=Console(file=io.StringIO()), quiet=True)
    store = load_study(Path(config.run_dir), "twice", None)
    return [(dict(trial.params), dict(trial.intermediate_values)) for trial in store.trials()]


def test_one_seed_gives_one_search(ray_with_one_slot: None, tmp_path: Path) -> None:
    first, second = searched(tmp_path / "first", seed=3), searched(tmp_path / "second", seed=3)
    assert first == second
    # After ten trials TPE samples from the values, so these must be equal too.
    assert len(first) == 12
    assert searched(tmp_path / "other", seed=4, trials=2) != first[:2]
