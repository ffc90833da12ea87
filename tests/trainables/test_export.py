"""Model that a training run saves."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import pipeline

from trainables.data.rows import read_rows
from trainables.export import save_best_epoch
from trainables.reports import TrialReport
from trainables.saved import load_model_folder
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
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
    temperature = saved.calibrations["class"].temperature.value
    assert temperature != 1
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(batch), session.model.eval()(batch) / temperature)
    before, after = saved.calibrations["class"].errors["test"]
    assert kept["calibration"]["class"]["error"]["test"] == {"before": before, "after": after}
    assert saved.test["calibration_error"] == pytest.approx(after, abs=1e-6), "measured on the saved model"
    assert loaded.settings.tok == settings.tok
    assert loaded.decision["threshold"] == saved.validation["threshold"] == saved.test["threshold"]


def test_a_fixed_threshold_gives_the_answers_that_it_gave(settings: TrialSettings, cache: Path, tmp_path: Path) -> None:
    settings = with_params(settings, {"task.threshold": 0.35, "train.epochs": 2})
    reports: list[TrialReport] = []
    run_trial(settings, report=reports.append, folders=TrialFolders(cache, tmp_path / "checkpoints"))
    assert reports[-1].checkpoint is not None
    saved = save_best_epoch(settings, cache, reports[-1].checkpoint, tmp_path / "model")
    temperature = saved.calibrations["class"].temperature.value
    threshold = saved.validation["threshold"]
    assert math.log(threshold / (1 - threshold)) == pytest.approx(math.log(0.35 / 0.65) / temperature)
    assert saved.validation["macro_f1"] == saved.reached["macro_f1"] == reports[-1].value
    assert load_model_folder(saved.folder).decision == {"threshold": threshold}


def test_a_native_model_answers_alike_in_stock_tools(settings: TrialSettings, cache: Path, tmp_path: Path) -> None:
    settings = with_params(settings, {"head.pooling": "native", "train.epochs": 2, "tok.max_length": 20})
    reports: list[TrialReport] = []
    run_trial(settings, report=reports.append, folders=TrialFolders(cache, tmp_path / "checkpoints"))
    assert reports[-1].checkpoint is not None
    saved = save_best_epoch(settings, cache, reports[-1].checkpoint, tmp_path / "model")
    assert saved.calibrations["class"].shift != 0, "the threshold was not at 0.5"
    assert saved.validation["macro_f1"] == saved.reached["macro_f1"] == reports[-1].value
    loaded = load_model_folder(saved.folder)
    assert loaded.decision == {"threshold": 0.5}

    rows = read_rows(settings.data)
    assert rows.criteria is not None
    pairs = [{"text": criterion, "text_pair": text} for criterion, text in zip(rows.criteria, rows.texts, strict=True)]
    stock = pipeline("text-classification", str(saved.folder), device="cpu")
    answers = stock(pairs, truncation="only_second", top_k=None, batch_size=16)
    tokens = loaded.tokenizers[0](rows.criteria, rows.texts, truncation="only_second", max_length=20, padding=True)
    with torch.no_grad():
        probabilities = loaded.model(tokens.convert_to_tensors("pt")).softmax(dim=1)
    by_name = torch.tensor([[{a["label"]: a["score"] for a in answer}[name] for name in "01"] for answer in answers])
    torch.testing.assert_close(by_name, probabilities, atol=1e-5, rtol=0)


def test_a_folder_in_use_is_left_alone(settings: TrialSettings, cache: Path, tmp_path: Path) -> None:
    reports: list[TrialReport] = []
    run_trial(settings, report=reports.append, folders=TrialFolders(cache, tmp_path / "checkpoints"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes").touch()
    assert reports[0].checkpoint is not None
    with pytest.raises(FileExistsError, match="is not empty"):
        save_best_epoch(settings, cache, reports[0].checkpoint, tmp_path / "model")
