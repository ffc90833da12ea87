"""Real trials on real Ray under a memory budget: one that is too large ends out of memory, with its measured excess."""

import io
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from tune_app.cli import cli
from tune_app.config import RunConfig, parse_config
from tune_app.console import Console
from tune_app.experiment import run_search
from tune_app.study.run_dir import CONFIG_FILE, tracking_uri

pytestmark = pytest.mark.slow

# Weights and optimizer states of one encoder fit, those of the other do not, whatever the batch.
BUDGET_GIB = 0.04
FITS, TOO_LARGE = "tiny-bert", "small-bert"


@pytest.fixture(scope="module")
def searched(
    tmp_path_factory: pytest.TempPathFactory, ray_with_one_slot: None
) -> tuple[RunConfig, dict[str, Any], str]:
    """Search a model that does not fit and one that does; return configuration, trials by model, and output."""
    from tune_app.study.store import load_study

    folder = tmp_path_factory.mktemp("budget")
    config = parse_config(
        {
            "study": {"name": "budget", "dir": str(folder / "runs")},
            "data": {"path": "demo", "max_rows": 300},
            "tok": {"max_length": 64},
            "train": {"epochs": 1},
            "memory": {"budget_gib": BUDGET_GIB},
            "search": {"trials": 2, "sampler": "exhaustive"},
            "scheduler": {"name": "none"},
            # Without rules, a model that does not fit is launched too.
            "limits": None,
            "space": {"model.name": {"choices": [TOO_LARGE, FITS]}},
        }
    )
    output = io.StringIO()
    run_search(config, console=Console(file=output, width=200))
    trials = load_study(Path(config.run_dir), "budget", None).trials()
    return config, {trial.params["model.name"]: trial for trial in trials}, output.getvalue()


def test_a_trial_that_does_not_fit_reports_its_measured_excess(searched: Any) -> None:
    _, trials, output = searched
    too_large = trials[TOO_LARGE]
    facts = too_large.user_attrs
    assert facts["outcome"] == "oom"
    assert "CPU out of memory. Tried to allocate" in facts["reason"]
    assert facts["budget_gib"] == facts["allowed_gib"] == pytest.approx(BUDGET_GIB)
    assert facts["need_gib"] > facts["allowed_gib"] >= facts["peak_gib"] > 0
    assert too_large.constraints["memory"] == pytest.approx(facts["need_gib"] / facts["allowed_gib"] - 1)
    assert "memory/" not in output
    assert "trial start" not in output


def test_the_next_trial_runs_in_a_clean_worker_and_within_the_budget(searched: Any) -> None:
    _, trials, _ = searched
    facts = trials[FITS].user_attrs
    assert facts["outcome"] == "complete"
    assert 0 < facts["peak_gib"] <= facts["budget_gib"]
    assert facts["memory/trial_start/allocated_gib"] < 0.001
    assert abs(facts["memory/trial_end/allocated_gib"] - facts["memory/trial_start/allocated_gib"]) < 0.001


def test_the_figures_of_every_stage_are_metrics_in_mlflow(searched: Any) -> None:
    config, trials, _ = searched
    client = MlflowClient(tracking_uri=tracking_uri(config))
    experiment = client.get_experiment_by_name("budget")
    runs = client.search_runs([experiment.experiment_id], max_results=10)
    by_number = {run.data.tags["headroom.trial"]: run.data.metrics for run in runs if "headroom.trial" in run.data.tags}
    metrics = by_number[str(trials[FITS].number)]
    stages = ("trial_start", "model_loaded", "training_start", "training_end", "trial_end")
    for stage in stages:
        for figure in ("allocated", "reserved", "free", "change"):
            assert f"memory/{stage}/{figure}_gib" in metrics
    assert metrics["peak_gib"] == trials[FITS].user_attrs["peak_gib"]
    assert "memory/trial_end/allocated_gib" in by_number[str(trials[TOO_LARGE].number)]


def test_one_training_run_keeps_to_the_budget_too(searched: Any, tmp_path: Path) -> None:
    config, _, _ = searched
    given = [str(Path(config.run_dir, CONFIG_FILE)), "--to", str(tmp_path / "model"), "-s", "space=null", "--quiet"]
    result = CliRunner().invoke(cli, ["train", *given, "-s", f"model.name={TOO_LARGE}"], standalone_mode=False)
    assert result.return_value == 1
    assert "out of memory" in result.stderr
    assert "CPU out of memory. Tried to allocate" in result.stderr
    result = CliRunner().invoke(cli, ["train", *given, "-s", f"model.name={FITS}"], standalone_mode=False)
    assert result.return_value == 0
    assert (tmp_path / "model").is_dir()
