"""A search with several objectives on a real, tiny encoder, from its first trial to a retrained configuration."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from tune_app.cli import cli
from tune_app.config import RunConfig, parse_config
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.experiment import run_search
from tune_app.outcomes import Outcome
from tune_app.study.export import export_best
from tune_app.study.run_dir import tracking_uri
from tune_app.study.store import load_study

pytestmark = pytest.mark.slow


def a_config(folder: Path, *overrides: str) -> RunConfig:
    raw: dict[str, Any] = {
        "study": {"name": "both", "dir": str(folder / "runs")},
        "data": {"path": "demo", "max_rows": 300},
        "model": {"name": "tiny-bert"},
        "tok": {"max_length": 32},
        "train": {"epochs": 2},
        "memory": {"micro_batch": 16, "eval_batch": 64},
        "search": {"trials": 3, "metric": ["macro_f1", "calibration_error", "peak_gib"], "sampler": "tpe"},
        "scheduler": {"name": "none"},
        "limits": None,
        "space": {
            "head.pooling": {"choices": ["cls", "mean"]},
            "optim.lr": {"low": 0.0001, "high": 0.01, "log": True},
        },
    }
    return parse_config(raw, overrides)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, ray_with_one_slot: None) -> tuple[RunConfig, str]:
    """Run a study of three trials; return configuration and output."""
    config = a_config(tmp_path_factory.mktemp("search"))
    output = io.StringIO()
    end = run_search(config, console=Console(file=output, width=200))
    assert not end.interrupted, output.getvalue()
    return config, output.getvalue()


def run_cli(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False, standalone_mode=False)
    return result.stdout


def test_every_trial_has_what_was_measured_in_its_best_epoch(searched: tuple[RunConfig, str]) -> None:
    config, output = searched
    trials = load_study(Path(config.run_dir), "both", None).trials()
    assert len(trials) == 3
    for trial in trials:
        assert trial.user_attrs["outcome"] == Outcome.COMPLETE
        metrics, (score, error, peak) = trial.user_attrs["metrics"], trial.values
        assert score == max(trial.intermediate_values.values()) == metrics["macro_f1"]
        assert (error, peak) == (metrics["calibration_error"], trial.user_attrs["peak_gib"])
        assert trial.user_attrs["seconds_per_sample"] > 0
        assert f"complete macro_f1 {score:.4f}, calibration_error {error:.4g}, peak_gib {peak:.4g} in" in output


def test_status_optuna_and_mlflow_have_the_same_front(searched: tuple[RunConfig, str]) -> None:
    config, _ = searched
    study = load_study(Path(config.run_dir), "both", None).study
    status = json.loads(run_cli("status", config.run_dir, "--json"))
    best = {trial.number: dict(zip(study.metric_names or [], trial.values, strict=True)) for trial in study.best_trials}
    assert {one["number"]: one["values"] for one in status["front"]} == best
    assert status["best"]["number"] == status["front"][0]["number"]
    client = MlflowClient(tracking_uri=tracking_uri(config))
    experiment = client.get_experiment_by_name("both")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    children = {int(run.data.tags["headroom.trial"]): run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert len(children) == 3
    for number, values in best.items():
        logged = children[number].data.metrics
        assert {name: logged[f"value/{name}"] for name in values} == values
        assert logged["value"] == values["macro_f1"]


def test_an_exported_configuration_trains_to_the_same_score_and_calibration(
    searched: tuple[RunConfig, str], tmp_path: Path
) -> None:
    config, _ = searched
    store = load_study(Path(config.run_dir), "both", None)
    last = json.loads(run_cli("status", config.run_dir, "--json"))["front"][-1]
    file = export_best(store, config, tmp_path, last["number"])
    printed = run_cli("train", str(file), "--to", str(tmp_path / "model"), "--quiet")
    assert f"trial {last['number']} of both had {last['values']['macro_f1']:.6f}: reproduced" in printed
    error = f"{last['values']['calibration_error']:.4g}"
    assert f"calibration_error {error} (trial: {error}), peak_gib " in printed


def test_the_study_goes_on_only_with_its_own_objectives(searched: tuple[RunConfig, str]) -> None:
    config, _ = searched
    other = parse_config(config.as_dict(), ["search.metric=[macro_f1, peak_gib]", "study.on_change=refuse"])
    with pytest.raises(
        UserError, match=r"search\.metric: macro_f1 \(max\), calibration_error \(min\), peak_gib \(min\) "
    ):
        run_search(other, console=Console(file=io.StringIO()))


def test_with_other_objectives_nothing_is_carried_over(searched: tuple[RunConfig, str]) -> None:
    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        from trainables.reports import TrialReport

        report(TrialReport(1, 0.5, metrics={"macro_f1": 0.5}, facts={"peak_gib": 1.0}, ended="complete"))

    config, _ = searched
    other = parse_config(config.as_dict(), ["search.metric=[macro_f1, peak_gib]", "search.trials=1"])
    end = run_search(other, console=Console(file=io.StringIO()), run_trial=run_trial, checks=())
    assert end.run_dir == Path(f"{config.run_dir}-v2")
    (only,) = load_study(end.run_dir, "both-v2", None).trials()
    assert len(only.values) == 2
