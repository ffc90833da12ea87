"""Trial in folds: each starts from scratch, the mean so far is compared, and the trial resumes within any of them."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import session as session_module
from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.planning.batch_limits import BatchLimits
from trainables.reports import TrialReport
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
from trainables.tasks.protocol import Scores
from trainables.trial import TrialFolders, run_trial

FOLDS, EPOCHS = 3, 2
Run = Callable[..., list[TrialReport]]


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> Run:
    def run(settings: TrialSettings, resume_from: Path | None = None) -> list[TrialReport]:
        reports: list[TrialReport] = []
        folder = tmp_path / f"trial-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        device = CpuDevice(settings.memory.budget_gib)
        run_trial(settings, report=reports.append, folders=TrialFolders(cache, folder, resume_from), device=device)
        return reports

    return run


def in_folds(settings: TrialSettings, **changes: Any) -> TrialSettings:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return with_params(settings, {"data.folds": FOLDS, "train.epochs": EPOCHS, **named})


def contents(reports: list[TrialReport]) -> list[tuple[Any, ...]]:
    """Return the parts of reports that do not depend on clock or storage location.

    Values are text, because NaN equals nothing.
    """
    return [(r.step, r.fold_epoch, str(r.value), r.metrics, r.ended, r.reason) for r in reports]


def units(reports: list[TrialReport]) -> list[TrialReport]:
    return [trial_report for trial_report in reports if trial_report.fold_epoch is None]


def scripted(values: dict[int, list[float]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make epochs measure these values, by fold from 0; the first fold alone has a right answer."""

    def evaluate(session: TrainingSession, part: str) -> Scores:
        progress = session.progress
        value = values[len(progress.folds)][progress.epoch]
        answers = {"no": 2.0} if progress.folds else {"no": 1.0, "yes": 3.0}
        return Scores({"macro_f1": value}, breakdowns={"confusion": {"yes": answers}})

    monkeypatch.setattr(TrainingSession, "evaluate", evaluate)


def test_a_fold_is_a_step_and_its_epochs_are_none(settings: TrialSettings, run: Run) -> None:
    reports = run(in_folds(settings))
    assert [(trial_report.step, trial_report.fold_epoch) for trial_report in reports] == [
        (0, 1),
        (1, None),
        (1, 1),
        (2, None),
        (2, 1),
        (3, None),
    ]
    assert [trial_report.ended for trial_report in reports] == [None] * 5 + ["complete"]
    assert all(trial_report.checkpoint is not None and trial_report.checkpoint.is_dir() for trial_report in reports)
    assert math.isnan(reports[0].value)
    assert reports[2].value == reports[1].value, "within a fold the mean is that of the folds before"


def test_the_objective_is_the_mean_of_the_folds_best_epochs(
    settings: TrialSettings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted({0: [0.5, 0.7], 1: [0.9, 0.2], 2: [0.1, 0.2]}, monkeypatch)
    reports = units(run(in_folds(settings)))
    assert [trial_report.value for trial_report in reports] == pytest.approx([0.7, 0.8, 0.6])
    assert [trial_report.metrics["macro_f1"] for trial_report in reports] == [
        trial_report.value for trial_report in reports
    ]
    assert [trial_report.metrics["fold_macro_f1"] for trial_report in reports] == [0.7, 0.9, 0.2]
    assert [trial_report.metrics["fold_epoch"] for trial_report in reports] == [2, 1, 2]
    assert reports[-1].metrics["fold_deviation"] == pytest.approx(statistics.pstdev([0.7, 0.9, 0.2]))
    assert reports[-1].breakdowns == {"confusion": {"yes": {"no": pytest.approx(5 / 3), "yes": 1.0}}}


def test_patience_looks_at_the_epochs_of_its_own_fold(
    settings: TrialSettings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second fold is worse than the first throughout, but improves every epoch; the third never improves.
    scripted({0: [0.9, 0.8, 0.7], 1: [0.1, 0.2, 0.3, 0.4, 0.5], 2: [0.5, 0.5, 0.5]}, monkeypatch)
    reports = units(run(in_folds(settings, train__epochs=5, train__patience=2)))
    assert [trial_report.metrics["fold_epochs"] for trial_report in reports] == [3, 5, 3]
    assert [trial_report.metrics["fold_macro_f1"] for trial_report in reports] == [0.9, 0.5, 0.5]
    assert (reports[-1].ended, reports[-1].reason) == ("complete", None)


def test_every_fold_starts_from_the_start_on_rows_of_its_own(
    builtin_settings: TrialSettings, run: Run, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    # Dropout draws the same numbers too: the folds before leave no trace.
    changed = in_folds(builtin_settings, train__epochs=1)
    trained = [trial_report.metrics for trial_report in units(run(changed))]
    means: list[float] = []
    validated: list[int] = []
    for fold in range(FOLDS):
        session = session_of(changed)
        session.begin_fold(fold)
        loss = session.train_epoch()
        scores = session.evaluate("validation").metrics
        means.append(loss)
        assert trained[fold]["train_loss"] == pytest.approx(statistics.fmean(means), abs=1e-12)
        assert trained[fold]["fold_macro_f1"] == scores["macro_f1"]
        validated += session.inputs.part("validation").tolist()
    assert len(set(means)) == FOLDS
    assert sorted(validated) == list(range(120))


def test_whatever_report_a_trial_goes_on_from_it_says_the_same(builtin_settings: TrialSettings, run: Run) -> None:
    changed = in_folds(builtin_settings)
    straight = run(changed)
    # Within a fold, at its end, and within the last one.
    for place in (0, 1, 4):
        assert contents(run(changed, straight[place].checkpoint)) == contents(straight[place + 1 :])
    (last,) = run(changed, straight[-1].checkpoint)
    assert contents([last]) == contents(straight[-1:])
    assert last.checkpoint is None


def test_between_folds_no_model_is_written(settings: TrialSettings, run: Run) -> None:
    reports = run(in_folds(settings))
    sizes = [
        sum(file.stat().st_size for file in trial_report.checkpoint.iterdir())
        for trial_report in reports
        if trial_report.checkpoint
    ]
    assert max(sizes[1::2]) < 10_000 < min(sizes[::2])


def test_folds_take_no_more_memory_than_one(
    settings: TrialSettings, run: Run, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    changed = in_folds(settings, train__epochs=1)
    run(changed)
    CpuDevice().release()
    # Live tensors of other test modules are no need of these trials, which are so small that they would matter.
    held_gib = CpuDevice().live_bytes() / GIB
    for trial_report in units(run(changed)):
        peak, predicted = trial_report.facts["peak_gib"], trial_report.facts["predicted_gib"]
        assert isinstance(peak, float)
        assert isinstance(predicted, float)
        # The prediction includes all gradients, which the first pass of a step does not have yet.
        assert 0.9 * predicted <= peak - held_gib <= 1.005 * predicted

    session = session_of(changed)
    session.train_epoch()
    session.evaluate("validation")
    CpuDevice().release()
    held = CpuDevice().live_bytes()
    session.begin_fold(1)
    assert abs(CpuDevice().live_bytes() - held) < 2**10


def test_how_much_goes_into_one_pass_is_decided_once(
    settings: TrialSettings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[BatchLimits] = []
    real_init = BatchLimits.__init__

    def counted(limits: BatchLimits, *args: Any, **kwargs: Any) -> None:
        decided.append(limits)
        real_init(limits, *args, **kwargs)

    pending = [True]
    real_step = session_module.train_step

    def runs_out_once(model: Any, task: Any, batch: list[Any], *args: Any, **kwargs: Any) -> float:
        if pending.pop() if pending else False:
            raise torch.OutOfMemoryError("planted")
        return real_step(model, task, batch, *args, **kwargs)

    monkeypatch.setattr(BatchLimits, "__init__", counted)
    monkeypatch.setattr(session_module, "train_step", runs_out_once)
    reports = run(in_folds(settings, train__epochs=1))
    assert len(decided) == 1
    assert [trial_report.facts["recoveries"] for trial_report in reports] == [1] * FOLDS
    # The other folds reuse the first fold's finding.
    assert len({trial_report.facts["micro_batch"] for trial_report in reports}) == 1
    assert 1 <= int(str(reports[0].facts["micro_batch"])) <= 16


def test_checkpointing_that_one_fold_needed_stays_on(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(in_folds(settings))
    assert session.batch_limits.use_checkpointing()
    session.begin_fold(1)
    encoder = session.model.encoder
    assert isinstance(encoder, torch.nn.Module)
    assert encoder.is_activation_checkpointing
    assert session.batch_limits.checkpointing


def test_out_of_memory_in_a_later_fold_says_how_many_were_finished(
    settings: TrialSettings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainingSession.begin_fold

    def runs_out(session: TrainingSession, fold: int) -> None:
        if fold == 2:
            raise torch.OutOfMemoryError("planted")
        real(session, fold)

    monkeypatch.setattr(TrainingSession, "begin_fold", runs_out)
    *_, end = run(in_folds(settings))
    assert (end.ended, end.step, end.fold_epoch) == ("oom", 2, None)
    assert math.isnan(end.value)


def test_the_first_epoch_alone_teaches_later_predictions(
    settings: TrialSettings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[float] = []
    monkeypatch.setattr(BatchLimits, "settle", lambda limits, measured: settled.append(measured / GIB))
    run(in_folds(settings))
    assert len(settled) == 1
