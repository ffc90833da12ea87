"""Searches with one seed and one trial at a time: the same trials and values, whenever and wherever they run."""

import io
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import RunConfig, parse_config
from tune_app.console import Console
from tune_app.experiment import run_search
from tune_app.sampling import tpe
from tune_app.study.store import load_study


def configuration(folder: Path, seed: int) -> RunConfig:
    return parse_config(
        {
            "study": {"name": "twice", "dir": str(folder)},
            "data": {"path": "demo", "max_rows": 120},
            "model": {"name": "tiny-bert"},
            "tok": {"max_length": 32},
            "train": {"epochs": 2},
            "search": {"trials": 4, "seed": seed},
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


def searched(folder: Path, seed: int) -> list[tuple[dict[str, Any], dict[int, float]]]:
    config = configuration(folder, seed)
    run_search(config, console=Console(file=io.StringIO()), quiet=True)
    store = load_study(Path(config.run_dir), "twice", None)
    return [(dict(trial.params), dict(trial.intermediate_values)) for trial in store.trials()]


@pytest.mark.slow
def test_one_seed_gives_one_search(ray_with_one_slot: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "STARTUP_TRIALS", 2)
    first, second = searched(tmp_path / "first", seed=3), searched(tmp_path / "second", seed=3)
    assert first == second
    # After two trials TPE samples from the values, so these must be equal too.
    assert len(first) == 4


def test_another_seed_gives_other_trainings(tmp_path: Path) -> None:
    assert (
        configuration(tmp_path, seed=4).trial_settings().seeds != configuration(tmp_path, seed=3).trial_settings().seeds
    )
