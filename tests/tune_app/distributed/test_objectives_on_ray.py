"""Real Ray runs of scripted trials with several objectives: the epoch that counts, and trials that fail."""

from pathlib import Path
from typing import Any

import pytest

from tune_app.config import parse_config
from tune_app.outcomes import metrics_attribute
from tune_app.screening.preconditions import study_record
from tune_app.study.checkpoints import LATEST, trial_folder
from tune_app.study.store import open_study

pytestmark = pytest.mark.slow

OBJECTIVES = "search.metric=[macro_f1, calibration_error, peak_gib]"


def scripted(scores: dict[int, float], errors: dict[int, float], runs_out_at: int | None = None) -> Any:
    """Return a trial of two epochs with these scores and calibration errors.

    Its peak grows. It runs out of memory in the epoch ``runs_out_at``.
    """

    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        from trainables.reports import TrialReport

        done = int((workspace.resume_from / "epoch").read_text()) if workspace.resume_from else 0
        for epoch in range(done + 1, 3):
            if epoch == runs_out_at:
                facts = {"need_gib": 3.0, "allowed_gib": 2.0}
                report(TrialReport(epoch, float("nan"), facts=facts, ended="oom", reason="too much"))
                return
            folder = workspace.checkpoints / f"epoch-{epoch}"
            folder.mkdir(parents=True)
            (folder / "epoch").write_text(str(epoch))
            metrics = {"macro_f1": scores[epoch]}
            if epoch in errors:
                metrics["calibration_error"] = errors[epoch]
            report(
                TrialReport(
                    epoch,
                    scores[epoch],
                    metrics=metrics,
                    facts={"peak_gib": float(epoch)},
                    ended="complete" if epoch == 2 else None,
                    checkpoint=folder,
                )
            )

    return run_trial


def test_the_epoch_with_the_best_score_counts_for_all_and_the_peak_is_the_trials(run_scripted: Any) -> None:
    end, store, output = run_scripted(
        None, OBJECTIVES, "search.trials=1", run_trial=scripted({1: 0.9, 2: 0.8}, {1: 0.3, 2: 0.1})
    )
    assert store.trial(0).values == [0.9, 0.3, 2.0]
    assert "epoch 2: macro_f1 0.8000, calibration_error 0.1, peak_gib 2 (best 0.9000 in epoch 1)" in output
    assert "complete macro_f1 0.9000, calibration_error 0.3, peak_gib 2 in" in output
    assert [trial.number for trial in end.status.front] == [0]


def test_measurements_before_an_interruption_count_after_it(
    run_scripted: Any, plain_config: dict[str, Any], tmp_path: Path
) -> None:
    config = parse_config(plain_config, [OBJECTIVES])
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    store = open_study(run_dir, "test", None, study_record(config))
    number = store.open_trial({"optim.lr": 0.1}, {})
    checkpoint = run_dir / "checkpoints" / trial_folder(number, store.id, "a") / "checkpoint_0"
    checkpoint.mkdir(parents=True)
    (checkpoint / "epoch").write_text("1")
    store.report(number, 1, 0.9)
    measured = {"macro_f1": 0.9, "calibration_error": 0.3}
    store.set_attributes(number, {metrics_attribute("epoch", 1): measured, LATEST: str(checkpoint)})
    _, store, _ = run_scripted(None, OBJECTIVES, "search.trials=1", run_trial=scripted({2: 0.8}, {2: 0.1}))
    recorded = store.trial(number)
    assert (recorded.values, recorded.user_attrs["metrics"]) == ([0.9, 0.3, 2.0], measured)


def test_a_trial_in_which_an_objective_was_not_measured_has_failed(run_scripted: Any) -> None:
    end, store, _ = run_scripted(None, OBJECTIVES, "search.trials=1", run_trial=scripted({1: 0.9, 2: 0.8}, {2: 0.1}))
    recorded = store.trial(0)
    assert (recorded.user_attrs["outcome"], recorded.state.name) == ("failed", "FAIL")
    assert recorded.user_attrs["reason"] == (
        "not every objective was measured: calibration_error was None, peak_gib was 2.0 in epoch 1"
    )
    assert end.status.best is None


def test_memory_that_runs_out_is_told_with_its_excess_and_the_search_goes_on(run_scripted: Any) -> None:
    _, store, _ = run_scripted(
        None,
        OBJECTIVES,
        "search.trials=2",
        "search.sampler=nsga2",
        run_trial=scripted({1: 0.9}, {1: 0.3}, runs_out_at=2),
    )
    assert len(store.trials()) == 2
    for recorded in store.trials():
        assert (recorded.user_attrs["outcome"], recorded.state.name, recorded.values) == ("oom", "PRUNED", None)
        assert recorded.constraints == {"memory": 0.5}
        assert recorded.intermediate_values == {1: 0.9}
