"""Real trials on real Ray when memory runs out unexpectedly: predictions too small, neighbours, greed."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import parse_config
from tune_app.console import Console
from tune_app.experiment import run_search
from tune_app.study.store import load_study

pytestmark = pytest.mark.slow

CARD_GIB = 0.1


@pytest.fixture(scope="module", autouse=True)
def ray_with_a_card(start_ray: Any) -> Iterator[None]:
    """Start Ray with room for two trials on one card, which is made of the CPU's memory."""
    with start_ray(2, gpus=1):
        yield


def searched(folder: Path, space: dict[str, Any], *overrides: str, **training: Any) -> list[Any]:
    """Search the whole space without rules and return the trials; configurations that do not fit are launched too."""
    config = parse_config(
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
            "space": {name: {"choices": choices} for name, choices in space.items()},
        },
        overrides,
    )
    run_search(config, console=Console(file=io.StringIO()), **training)
    return load_study(Path(config.run_dir), "memory", None).trials()


def with_predictions_too_small() -> Any:
    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        from trainables.planning.ledger import Ledger
        from tune_app.distributed.trial import train_encoder

        # A prediction so far below the truth that no probe runs.
        Ledger.correction = lambda self, where: 0.05  # type: ignore[method-assign]
        train_encoder(settings, report, workspace)

    return run_trial


def test_predictions_that_are_too_small_cost_recoveries_and_no_trial(tmp_path: Path) -> None:
    space = {"train.batch_size": [96, 61]}
    # The budget holds some twenty rows, but the prediction has room for all.
    given = ["resources.gpu=1", "memory.budget_gib=0.015"]
    trials = searched(tmp_path, space, *given, run_trial=with_predictions_too_small(), checks=())
    assert len(trials) == 2
    for trial in trials:
        facts = trial.user_attrs
        assert facts["outcome"] == "complete", facts
        assert facts["effective_batch"] == trial.params["train.batch_size"]
        assert facts["recoveries"] >= 1
        assert 1 <= facts["micro_batch"] < facts["effective_batch"]
        assert facts["peak_gib"] <= facts["budget_gib"] == pytest.approx(0.015)
        assert facts["probe_points"] == 0
        assert facts.get("retries", 0) == 0


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


def test_a_trial_whose_neighbour_took_the_memory_runs_again_and_completes(tmp_path: Path, machine_folder: Path) -> None:
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


def test_the_greedy_one_of_two_trials_on_one_card_fails(tmp_path: Path) -> None:
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
