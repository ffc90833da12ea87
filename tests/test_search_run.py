"""A whole search on a real, tiny encoder: its trials end in every possible way, and four accounts of it agree.

Two faults are planted in the worker, where the trial meets them as it would meet its own: memory that runs out in a
training step, and a bug in the evaluation.
"""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from tune_app.cli import cli
from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.experiment import run_search
from tune_app.study.run_dir import tracking_uri

pytestmark = pytest.mark.slow

OUT_OF_MEMORY, BUG = 0.25, 0.5


def unlucky_trial(settings: Any, report: Any, workspace: Any) -> None:
    """Train for real, with a fault planted for certain values of the sampled learning rate."""
    import torch

    from trainables import session
    from tune_app.distributed.trial import train_encoder

    def no_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("planted: tried to allocate 360.00 MiB")

    def bug(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted bug")

    planted = {0.25: ("train_step", no_memory), 0.5: ("predict_outputs", bug)}.get(settings.optim.lr)
    if planted is None:
        return train_encoder(settings, report, workspace)
    name, misfortune = planted
    real = getattr(session, name)
    setattr(session, name, misfortune)
    try:
        return train_encoder(settings, report, workspace)
    finally:
        setattr(session, name, real)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, ray_with_one_slot: None) -> Any:
    folder = tmp_path_factory.mktemp("search")
    # The order, one trial at a time: a good trial, one that learns nothing, and each fault once. The rules reject every
    # second batch size.
    config = parse_config(
        {
            "study": {"name": "road", "dir": str(folder / "runs")},
            "data": {"path": "demo", "max_rows": 500},
            "model": {"name": "tiny-bert"},
            "tok": {"max_length": 64},
            "train": {"epochs": 3},
            "memory": {"micro_batch": 32, "eval_batch": 128},
            "search": {"trials": 4, "sampler": "exhaustive"},
            "scheduler": {"name": "asha", "reduction_factor": 2},
            "limits": {"small": {"effective_batch": 64}},
            "space": {
                "optim.lr": {"choices": [1e-3, 1e-8, OUT_OF_MEMORY, BUG]},
                "train.batch_size": {"choices": [16, 256]},
            },
        }
    )
    end = run_search(config, console=Console(file=io.StringIO()), run_trial=_by_value(unlucky_trial), checks=())
    return config, end


def _by_value(function: Any) -> Any:
    """Have a function pickled by value, since workers cannot import a test module."""
    import sys

    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
    return function


def run_cli(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False, standalone_mode=False)
    return result.stdout


EXPECTED = {"complete": 1, "stopped": 1, "oom": 1, "infeasible": 3, "failed": 1, "running": 0, "interrupted": 0}


def test_status_study_mlflow_and_leaderboard_agree_to_the_number(searched: Any, tmp_path: Path) -> None:
    config, _ = searched
    status = json.loads(run_cli("status", config.run_dir, "--json"))
    assert status["trials"] == EXPECTED
    assert (status["study"], status["target"], status["launched"]) == ("road", 4, 4)

    from tune_app.study.store import load_study

    store = load_study(Path(config.run_dir), "road", None)
    assert Counter(trial.user_attrs["outcome"] for trial in store.trials()) == Counter(
        {name: count for name, count in EXPECTED.items() if count}
    )
    states = Counter(trial.state.name for trial in store.trials())
    assert states == {"COMPLETE": 1, "PRUNED": 1 + 1 + 3, "FAIL": 1}

    client = MlflowClient(tracking_uri=tracking_uri(config))
    experiment = client.get_experiment_by_name("road")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1
    assert Counter(run.data.tags["outcome"] for run in children) == {"complete": 1, "stopped": 1, "oom": 1, "failed": 1}
    metrics = parents[0].data.metrics
    assert {name: metrics[name] for name in ("completed_trials", "pruned_trials", "failed_trials", "oom_trials")} == {
        "completed_trials": 1,
        "pruned_trials": 5,
        "failed_trials": 1,
        "oom_trials": 1,
    }
    assert parents[0].data.params["search.sampler"] == "exhaustive"

    run_cli("export", config.run_dir, "--to", str(tmp_path))
    with (tmp_path / "leaderboard.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert Counter(row["outcome"] for row in rows) == {name: count for name, count in EXPECTED.items() if count}
    best = status["best"]
    assert (int(rows[0]["number"]), float(rows[0]["macro_f1"])) == (best["number"], best["value"])
    child = next(run for run in children if run.data.tags["headroom.trial"] == str(best["number"]))
    assert child.data.metrics["value"] == best["value"]


def test_a_good_configuration_learns_and_a_bad_one_is_stopped(searched: Any) -> None:
    _, end = searched
    assert end.status.best.params["optim.lr"] == 1e-3
    assert end.status.best.value > 0.6


def test_an_oom_says_what_ran_out_and_is_told_as_a_violated_constraint(searched: Any) -> None:
    config, _ = searched
    from tune_app.study.store import load_study

    trials = load_study(Path(config.run_dir), "road", None).trials()
    (ran_out,) = [trial for trial in trials if trial.user_attrs["outcome"] == "oom"]
    reason = ran_out.user_attrs["reason"]
    assert reason.startswith("model tiny-bert, batch 16, accumulation 1, length 64")
    assert "planted: tried to allocate" in reason
    assert ran_out.constraints["memory"] > 0
    assert ran_out.user_attrs["effective_batch"] == 16


def test_a_bug_is_shown_as_one_with_its_traceback(searched: Any) -> None:
    config, _ = searched
    from tune_app.study.store import load_study

    trials = load_study(Path(config.run_dir), "road", None).trials()
    (failed,) = [trial for trial in trials if trial.user_attrs["outcome"] == "failed"]
    assert failed.user_attrs["error_type"] == "ZeroDivisionError"
    assert "predict_outputs" in failed.user_attrs["error_traceback"]
    assert not failed.constraints


def test_the_rejected_were_never_launched(searched: Any) -> None:
    config, _ = searched
    from tune_app.study.store import load_study

    rejected = [
        trial
        for trial in load_study(Path(config.run_dir), "road", None).trials()
        if trial.user_attrs["outcome"] == "infeasible"
    ]
    assert {trial.params["train.batch_size"] for trial in rejected} == {256}
    assert all(not trial.intermediate_values for trial in rejected)
    assert all(trial.constraints == {"size_limits": 3.0} for trial in rejected)


def test_only_the_best_checkpoint_stays(searched: Any) -> None:
    config, end = searched
    left = [path.parent.name for path in Path(config.run_dir, "checkpoints").glob("*/checkpoint_*")]
    assert len(left) == 1
    assert left[0].startswith(f"trial-{end.status.best.number:05d}-")


def test_best_yaml_trains_to_the_same_value_and_saves_a_model_that_loads(searched: Any, tmp_path: Path) -> None:
    from trainables.saved import load_model_folder

    config, end = searched
    run_cli("export", config.run_dir, "--to", str(tmp_path))
    output = run_cli("train", str(tmp_path / "best.yaml"), "--to", str(tmp_path / "model"), "--quiet")
    assert f"{end.status.best.value:.6f}: reproduced" in output
    saved = load_model_folder(tmp_path / "model")
    assert saved.settings.tok.max_length == 64
    assert saved.settings.task.classes == 2


def test_the_same_command_again_launches_nothing(searched: Any) -> None:
    config, first = searched
    again = run_search(config, console=Console(file=io.StringIO()), quiet=True)
    assert again.status == first.status
