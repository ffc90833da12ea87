"""Real trials when memory runs out unexpectedly: predictions too small, and on real Ray neighbours and greed."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainables.devices.cpu import CpuDevice
from trainables.machine import MachineFiles
from trainables.planning.ledger import Ledger
from trainables.reports import TrialReport
from trainables.trial import TrialFolders, run_trial
from tune_app.config import RunConfig, parse_config
from tune_app.console import Console
from tune_app.experiment import run_search
from tune_app.study.store import load_study

pytestmark = pytest.mark.slow

CARD_GIB = 0.1


@pytest.fixture(scope="module")
def ray_with_a_card(start_ray: Any) -> Iterator[None]:
    """Start Ray with room for two trials on one card, which is made of the CPU's memory."""
    with start_ray(2, gpus=1):
        yield


def configuration(folder: Path, space: dict[str, Any] | None, *overrides: str) -> RunConfig:
    """Return a configuration without rules, so that a search launches configurations that do not fit too."""
    return parse_config(
        {
            "study": {"name": "memory", "dir": str(folder / "runs")},
            "data": {"path": "demo", "max_rows": 300},
            "model": {"name": "tiny-bert"},
            "tok": {"max_length": 64},
            "train": {"epochs": 2},
            "memory": {"device_gib": CARD_GIB},
            "search": {"trials": 2, "sampler": "exhaustive"},
            "scheduler": {"name": "none"},
            "tracking": {"enabled": False},
            "limits": None,
            "space": space and {name: {"choices": choices} for name, choices in space.items()},
        },
        overrides,
    )


def searched(folder: Path, space: dict[str, Any], *overrides: str) -> list[Any]:
    """Search the whole space and return the trials."""
    config = configuration(folder, space, *overrides)
    run_search(config, console=Console(file=io.StringIO()))
    return load_study(Path(config.run_dir), "memory", None).trials()


@pytest.mark.parametrize("batch", [96, 61])
def test_predictions_that_are_too_small_cost_recoveries_and_no_trial(
    batch: int, tmp_path: Path, machine_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A prediction so far below the truth that no probe runs.
    monkeypatch.setattr(Ledger, "correction", lambda self, where: 0.05)
    # The budget holds some twenty rows, but the prediction has room for all.
    settings = configuration(tmp_path, None, "memory.device_gib=null", f"train.batch_size={batch}").trial_settings()
    reports: list[TrialReport] = []
    folders = TrialFolders(tmp_path / "cache", tmp_path / "trial", machine=MachineFiles(machine_folder))
    run_trial(settings, report=reports.append, folders=folders, device=CpuDevice(0.015))
    facts: dict[str, Any] = reports[-1].facts
    assert reports[-1].ended == "complete"
    assert facts["effective_batch"] == batch
    assert facts["recoveries"] >= 1
    assert 1 <= facts["micro_batch"] < batch
    assert facts["peak_gib"] <= facts["budget_gib"] == pytest.approx(0.015)
    assert facts["probe_points"] == 0


# Process that takes a card's free memory as soon as a trial trains there, and frees it when the trial's process ends.
NEIGHBOUR = """
import sys, time
from pathlib import Path
from trainables.devices.shared import SharedBudget

file, held = Path(sys.argv[1]), int(sys.argv[2])
card = SharedBudget(file)
card.publish(0)
print("ready", flush=True)
while card.others_bytes() < 12 * 2**20:
    time.sleep(0.005)
card.publish(held)
while card.others_bytes() > 0:
    time.sleep(0.05)
card.publish(0)
print("left", flush=True)
"""


def test_a_trial_whose_neighbour_took_the_memory_runs_again_and_completes(
    ray_with_a_card: None, tmp_path: Path, machine_folder: Path
) -> None:
    card = machine_folder / "cards" / "0.slots"
    held = int(0.098 * 2**30)
    with subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR, str(card), str(held)], stdout=subprocess.PIPE, text=True
    ) as neighbour:
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == "ready\n"
        (trial,) = searched(tmp_path, {"train.batch_size": [32]}, "resources.gpu=1", "search.trials=1")
        assert neighbour.wait(timeout=60) == 0
    facts = trial.user_attrs
    assert facts["outcome"] == "complete", facts
    assert facts["retries"] == 1
    assert facts["effective_batch"] == 32
    assert len(trial.intermediate_values) == 2


def test_the_greedy_one_of_two_trials_on_one_card_fails(ray_with_a_card: None, tmp_path: Path) -> None:
    space = {"model.name": ["small-bert", "tiny-bert"]}
    start = time.time()
    trials = searched(tmp_path, space, "resources.gpu=0.5", "search.max_concurrent=2", "train.epochs=4")
    by_model = {trial.params["model.name"]: trial for trial in trials}
    greedy, modest = by_model["small-bert"].user_attrs, by_model["tiny-bert"].user_attrs
    assert (greedy["outcome"], modest["outcome"]) == ("oom", "complete")
    for facts in (greedy, modest):
        assert facts["gpu_fraction"] == 0.5
        assert facts["budget_gib"] == pytest.approx(CARD_GIB / 2, rel=0.1)
    assert greedy["need_gib"] > greedy["allowed_gib"]
    assert by_model["small-bert"].constraints["memory"] > 0
    assert modest["recoveries"] == 0
    # Both trials ran at the same time.
    first_end = min(trial.datetime_complete.timestamp() for trial in trials)
    assert max(trial.user_attrs["suggested_at"] for trial in trials) < first_end
    assert first_end > start
