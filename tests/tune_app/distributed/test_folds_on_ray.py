"""Real Ray runs of trials in folds: the scheduler's comparisons, resuming, and the contents of study and export."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FOLDS, EPOCHS = 3, 2


def folded_trial(script: Any) -> Any:
    """Return a trial with the reports of a real one in folds.

    Its values come from ``script(settings, fold, epoch) -> value``, both from 1.
    """

    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        import json

        from trainables.reports import TrialReport

        state: dict[str, list[float]] = {"folds": [], "values": []}
        if workspace.resume_from is not None:
            state = json.loads((workspace.resume_from / "state").read_text())
        resumed_at = f"{len(state['folds'])}.{len(state['values'])}"
        while True:
            values, folds = state["values"], state["folds"]
            values.append(script(settings, len(folds) + 1, len(values) + 1))
            is_over = len(values) == settings.train.epochs
            if is_over:
                folds.append(max(values))
                state["values"] = []
            folder = workspace.checkpoints / f"{len(folds)}-{len(state['values'])}"
            folder.mkdir(parents=True)
            (folder / "state").write_text(json.dumps(state))
            mean = sum(folds) / len(folds) if folds else float("nan")
            has_ended = len(folds) == settings.data.folds
            report(
                TrialReport(
                    step=len(folds),
                    value=mean,
                    metrics={"macro_f1": mean, "fold_deviation": 0.0},
                    facts={"resumed_at": resumed_at},
                    ended="complete" if has_ended else None,
                    checkpoint=folder,
                    fold_epoch=len(state["values"]) or None,
                )
            )
            if has_ended:
                return

    return run_trial


@pytest.fixture
def search(run_scripted: Any) -> Any:
    def run(script: Any, *overrides: str) -> Any:
        settings = (f"data.folds={FOLDS}", f"train.epochs={EPOCHS}", *overrides)
        return run_scripted(None, *settings, run_trial=folded_trial(script))

    return run


def outcomes(store: Any) -> dict[float, str]:
    return {trial.params["optim.lr"]: trial.user_attrs["outcome"] for trial in store.trials()}


def test_a_trial_is_worth_the_mean_of_all_its_folds_and_keeps_no_model(search: Any) -> None:
    # The mean falls from fold to fold, and the trial's value is the last mean, not the highest.
    end, store, output = search(lambda settings, fold, epoch: settings.optim.lr - fold / 10 + epoch / 100)
    trials = store.trials()
    assert set(outcomes(store).values()) == {"complete"}
    assert trials[3].value == pytest.approx(0.4 - 0.2 + 0.02)
    assert trials[3].intermediate_values == pytest.approx({1: 0.32, 2: 0.27, 3: 0.22})
    assert end.status.best.number == 3
    attributes = trials[3].user_attrs
    assert attributes["best_epoch"] is None
    assert attributes["metrics"]["macro_f1"] == trials[3].value
    assert [attributes[f"metrics.fold_{fold}"]["macro_f1"] for fold in (1, 2, 3)] == pytest.approx([0.32, 0.27, 0.22])
    assert "best_checkpoint" not in attributes
    assert not list(Path(end.run_dir / "checkpoints").glob("trial-*/checkpoint*"))
    assert "trial    3  fold 2: macro_f1 0.2700 (mean of 2)" in output


def test_asha_compares_trials_by_the_same_folds(search: Any) -> None:
    _, store, _ = search(
        lambda settings, fold, epoch: settings.optim.lr,
        "scheduler.name=asha",
        "scheduler.reduction_factor=2",
        "space.optim.lr.choices=[0.5, 0.9, 0.3, 0.95]",
    )
    assert outcomes(store) == {0.5: "stopped", 0.9: "stopped", 0.3: "stopped", 0.95: "complete"}
    assert [len(trial.intermediate_values) for trial in store.trials()] == [1, 2, 1, 3]
    stopped = store.trials()[2]
    assert stopped.user_attrs["reason"] == "asha stopped it after fold 1 of 3"


def test_hyperband_pauses_between_folds_and_its_survivors_run_all_of_them(search: Any) -> None:
    lrs = [0.1, 0.2, 0.3, 0.4, 0.5]
    _, store, _ = search(
        lambda settings, fold, epoch: settings.optim.lr,
        "scheduler.name=hyperband",
        "scheduler.reduction_factor=3",
        "data.folds=5",
        "search.trials=5",
        f"space.optim.lr.choices={lrs}",
    )
    # In the bracket of 2 both trials run through; in that of 3 one survives the first fold.
    assert list(outcomes(store).values()) == ["complete", "complete", "stopped", "stopped", "complete"]
    assert [len(trial.intermediate_values) for trial in store.trials()] == [5, 5, 1, 1, 5]


def test_a_worker_killed_in_a_fold_goes_on_in_that_fold(search: Any, tmp_path: Path) -> None:
    died = tmp_path / "died"

    def script(settings: Any, fold: int, epoch: int) -> float:
        if (settings.optim.lr, fold, epoch) == (0.2, 2, 2) and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(settings.optim.lr) + fold / 10

    _, store, _ = search(script, "search.trials=2")
    killed = store.trials()[1]
    assert killed.user_attrs["resumed_at"] == "1.1", "one fold is finished, and one epoch of the next"
    assert killed.user_attrs["retries"] == 1
    assert killed.intermediate_values == pytest.approx({1: 0.3, 2: 0.35, 3: 0.4})


def test_a_study_of_one_split_does_not_go_on_in_folds(run_scripted: Any, search: Any) -> None:
    from tune_app.errors import UserError

    run_scripted(lambda settings, epoch: settings.optim.lr, "search.trials=1")
    with pytest.raises(UserError, match=r"data\.folds: null there, 3 here"):
        search(lambda settings, fold, epoch: settings.optim.lr, "study.on_change=refuse")
    # By default the search starts a new version, where values of one split do not count.
    end, store, _ = search(lambda settings, fold, epoch: settings.optim.lr, "search.trials=1")
    assert end.run_dir.name == "test-v2"
    (only,) = store.trials()
    assert sorted(only.intermediate_values) == [1, 2, 3]
