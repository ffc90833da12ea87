"""Model that a training run saves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainables.export import save_best_epoch
from trainables.reports import TrialReport
from trainables.saved import load_model_folder
from trainables.session import TrainingSession
from trainables.settings import TrialSettings
from trainables.trial import TrialFolders, run_trial


def test_the_saved_model_is_that_of_the_epoch_and_scores_what_was_reported(
    settings: TrialSettings, cache: Path, session_of: Callable[[TrialSettings], TrainingSession], tmp_path: Path
) -> None:
    reports: list[TrialReport] = []
    run_trial(settings, report=reports.append, folders=TrialFolders(cache, tmp_path / "checkpoints"))
    # The best epoch differs from the trial's last state, and has scores by criterion, which only a new best epoch
    # reports.
    epoch = next(trial_report for trial_report in reversed(reports[:-1]) if trial_report.breakdowns)
    assert epoch.checkpoint is not None
    saved = save_best_epoch(settings, cache, epoch.checkpoint, tmp_path / "model")
    assert saved.folder == tmp_path / "model"
    assert saved.validation["macro_f1"] == pytest.approx(epoch.value, abs=1e-6)
    assert saved.test.keys() == saved.validation.keys()
    kept = json.loads((saved.folder / "scores.json").read_text())
    assert kept["test"]["metrics"] == saved.test
    assert (
        kept["validation"]["by_criterion"].keys()
        == epoch.breakdowns["by_criterion"].keys()
        == {"is tired", "sleeps badly"}
    )

    session = session_of(settings)
    session.resume(epoch.checkpoint)
    batch = session.examples.batch([0, 1, 2])
    loaded = load_model_folder(saved.folder)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(batch), session.model.eval()(batch))
    assert loaded.settings.tok == settings.tok
    assert loaded.decision["threshold"] == saved.validation["threshold"] == saved.test["threshold"]


def test_a_folder_in_use_is_left_alone(settings: TrialSettings, cache: Path, tmp_path: Path) -> None:
    reports: list[TrialReport] = []
    run_trial(settings, report=reports.append, folders=TrialFolders(cache, tmp_path / "checkpoints"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes").touch()
    assert reports[0].checkpoint is not None
    with pytest.raises(FileExistsError, match="is not empty"):
        save_best_epoch(settings, cache, reports[0].checkpoint, tmp_path / "model")
