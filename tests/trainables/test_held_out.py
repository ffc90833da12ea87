"""Score of a checkpoint's model on the test part, and the corrected value of a trial with a redrawn split."""

from dataclasses import replace
from pathlib import Path

import pytest

from trainables.devices.cpu import CpuDevice
from trainables.export import save_best_epoch
from trainables.held_out import RESAMPLES, score_test_part
from trainables.reports import CORRECTED_VALUE, RESAMPLED, TrialReport
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TrialSettings, with_params
from trainables.trial import TrialFolders, run_trial


@pytest.fixture
def settings() -> TrialSettings:
    base = TrialSettings(DataSettings("demo", max_rows=150), replace(trial_seeds(0), validation=5))
    return with_params(base, {"model.name": "tiny-bert", "tok.max_length": 16, "train.epochs": 2, "optim.lr": 3e-3})


def test_a_model_scores_on_the_test_part_as_in_its_export(settings: TrialSettings, tmp_path: Path) -> None:
    trained: list[TrialReport] = []
    folders = TrialFolders(tmp_path / "cache", tmp_path / "steps")
    run_trial(settings, report=trained.append, folders=folders, device=CpuDevice())
    best = max(trained, key=lambda trial_report: trial_report.value)
    assert best.checkpoint is not None
    # The same rows chose the epoch and its threshold.
    corrected = trained[-1].facts[CORRECTED_VALUE]
    assert isinstance(corrected, float)
    assert 0 < best.value - corrected < 0.5

    scored: list[TrialReport] = []
    score_test_part(settings, best.checkpoint, report=scored.append, folders=folders, device=CpuDevice())
    saved = save_best_epoch(settings, folders.cache, best.checkpoint, tmp_path / "model")
    (test,) = scored
    assert (test.ended, test.value) == ("complete", saved.test["macro_f1"])
    resampled = [float(value) for value in str(test.facts[RESAMPLED]).split()]
    assert len(resampled) == RESAMPLES
    assert min(resampled) < test.value < max(resampled)


def test_a_trial_on_the_usual_split_has_no_corrected_value(settings: TrialSettings, tmp_path: Path) -> None:
    reports: list[TrialReport] = []
    usual = replace(with_params(settings, {"train.epochs": 1}), seeds=trial_seeds(0))
    run_trial(usual, report=reports.append, folders=TrialFolders(tmp_path / "cache", None), device=CpuDevice())
    assert CORRECTED_VALUE not in reports[-1].facts
