"""Warnings before a search, each about a setting."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tune_app.config import RunConfig, parse_config
from tune_app.forecast.warnings import warnings_of
from tune_app.outcomes import Outcome
from tune_app.screening.preconditions import study_record, with_classes_of_data
from tune_app.study.run_dir import write_config
from tune_app.study.store import open_study, search_lock

Warnings = Callable[..., dict[str, str]]


@pytest.fixture
def parsed(tmp_path: Path) -> Callable[..., RunConfig]:
    raw = {
        "study": {"name": "warned", "dir": str(tmp_path / "runs")},
        "data": {"path": "demo"},
        "model": {"name": "tiny-bert"},
        "train": {"epochs": 6},
        "search": {"trials": 12, "recommended": 0},
        "space": {"optim.lr": {"low": 0.0001, "high": 0.01, "log": True}},
    }
    return lambda *overrides: with_classes_of_data(parse_config(raw, overrides))


@pytest.fixture
def warned(parsed: Callable[..., RunConfig]) -> Warnings:
    def of(*overrides: str) -> dict[str, str]:
        config = parsed(*overrides)
        found = warnings_of(config, study_record(config).data_fingerprint)
        return {one.setting: one.message for one in found}

    return of


def test_a_sound_configuration_gets_no_warning(warned: Warnings) -> None:
    assert warned("data.validation_share=0.5") == {}


@pytest.mark.parametrize(
    ("override", "setting", "message"),
    [
        ("scheduler.startup_trials=12", "scheduler.startup_trials", "asha can stop none"),
        ("search.recommended=12", "search.recommended", "asha can stop none"),
        ("scheduler.warmup=4", "scheduler.warmup", "no trial is stopped before epoch 4 of 6"),
        ("schedule.warmup_ratio=0.6", "schedule.warmup_ratio", "0.6 of the training"),
        ("train.batch_size=4096", "schedule.warmup_ratio", "there is no warm-up"),
        ("data.max_rows=200", "data.validation_share", "standard error of macro_f1"),
    ],
)
def test_a_setting_that_wastes_the_search_is_named(warned: Warnings, override: str, setting: str, message: str) -> None:
    found = warned("data.validation_share=0.5", override)
    assert list(found) == [setting]
    assert message in found[setting]


def test_a_metric_that_needs_no_learning_is_named(warned: Warnings, tmp_path: Path) -> None:
    file = tmp_path / "rare.csv"
    rows = [f"a text about number {n},{int(n % 12 == 0)},{n}" for n in range(2400)]
    file.write_text("text,label,group_id\n" + "\n".join(rows))
    found = warned(f"data.path={file}", "search.metric=accuracy")
    assert "accuracy is 0.91" in found["search.metric"]
    assert "macro_f1" in found["search.metric"]
    assert "search.metric" not in warned(f"data.path={file}", "search.metric=macro_f1")


def test_a_blocking_environment_is_named(warned: Warnings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    assert "unset it" in warned()["CUDA_LAUNCH_BLOCKING"]
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "0")
    assert "CUDA_LAUNCH_BLOCKING" not in warned()


def test_an_edge_that_an_earlier_study_on_the_data_ran_into_is_named(
    warned: Warnings, parsed: Callable[..., RunConfig]
) -> None:
    config = parsed("study.name=earlier", "space.optim.lr.high=0.02")
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    with search_lock(run_dir):
        store = open_study(run_dir, "earlier", None, study_record(config))
        for position, lr in enumerate((0.0005, 0.001, 0.002, 0.003, 0.0098, 0.012)):
            number = store.open_trial({"optim.lr": lr}, {})
            store.close_trial(number, Outcome.COMPLETE, value=0.5 + position / 100)
    write_config(config, run_dir)
    assert "study earlier lie at its upper edge, 0.01" in warned()["space.optim.lr"]
    assert "space.optim.lr" not in warned("space.optim.lr.high=0.1")
    # Other data may need other values.
    assert "space.optim.lr" not in warned("data.max_rows=1000")
