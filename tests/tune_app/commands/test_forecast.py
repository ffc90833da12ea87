"""``headroom plan``: the contract's JSON, the printed plan, timed steps, and refusals."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from trainables.machine import MachineFiles
from trainables.planning.ledger import Circumstances
from trainables.planning.timings import PaceLedger, Setup, Timing, Work
from tune_app.cli import cli
from tune_app.errors import UserError

CONFIG = """
study: {name: planned, dir: RUNS}
data: {path: demo, max_rows: 300}
tok: {max_length: 32}
train: {epochs: 3}
memory: {device_gib: 0.067}
search: {trials: 5, max_concurrent: 2, recommended: 1}
space:
  model.name: {choices: [tiny-bert, small-deberta]}
  train.batch_size: {choices: [8, 16]}
  optim.lr: {choices: [0.001, 0.0005]}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "plan.yaml"
    file.write_text(CONFIG.replace("RUNS", str(tmp_path / "runs")))
    return str(file)


@pytest.fixture
def recorded(machine_folder: Path) -> None:
    """Record a pace of both models, as if trials of an earlier search had."""
    where = Circumstances.here("cpu", "fp32")
    for model, seconds in (("tiny-bert", 0.4), ("small-deberta", 2.0)):
        setup = Setup(where, (model,), "criteria", "adamw", 1, 2, False, 0)
        work = Work(10, 10, 10 * 8 * 30, 10 * 8 * 30**2, seconds)
        PaceLedger(MachineFiles().pace).add(
            Timing(setup, work, Work(1, 1, 900, 27_000, seconds / 20), start_s=0.5, save_s=0.1, saved_bytes=2**20)
        )


def planned(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["plan", *arguments], catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.usefixtures("recorded")
def test_the_plan_has_the_contracts_keys_and_writes_nothing(config: str, tmp_path: Path) -> None:
    plan = json.loads(planned(config, "--json"))
    assert (plan["study"], plan["trials"]) == ("planned", 5)
    assert plan["space"]["size"] == 8
    assert plan["space"]["can_run"] == pytest.approx(1 - plan["space"]["rejected"]["memory"])
    assert {row["model"] for row in plan["memory"]} == {"tiny-bert", "small-deberta"}
    assert all(row["length"] == 32 and row["need_gib"] > 0 for row in plan["memory"])
    assert plan["packing"]["at_once"] in (1, 2)
    assert sum(plan["packing"]["shares"].values()) == pytest.approx(1)
    assert plan["trial_s"]["small-deberta"] > 2 * plan["trial_s"]["tiny-bert"]
    for hours in (plan["hours"], plan["gpu_hours"]):
        assert 0 < hours["low"] <= hours["expected"] <= hours["high"]
    assert plan["hours"]["basis"] == "earlier trials"
    assert 3 / 1024 < plan["disk_gib"] <= 13 / 1024
    assert sorted(tmp_path.iterdir()) == [tmp_path / "plan.yaml"]


@pytest.mark.usefixtures("recorded")
def test_the_values_that_suffer_most_are_named(config: str) -> None:
    tight = planned(config, "-s", "memory.device_gib=0.03")
    assert "memory rejects 50.0%; most of model.name=small-deberta 100%" in tight
    assert "counted exactly" in tight
    assert "trial      to its end: tiny-bert" in tight
    assert "with early stopping (from earlier trials)" in tight


def test_another_card_is_planned_for_without_hours(config: str) -> None:
    plan = json.loads(planned(config, "--gpu-gib", "24", "--json"))
    assert all(row["max_micro_batch"] > 1000 for row in plan["memory"])
    assert plan["hours"] is None
    assert "hours      not known" in planned(config, "--gpu-gib", "24")


def test_models_without_a_record_are_timed_once(config: str) -> None:
    arguments = (config, "--json", "-s", "space.model.name.choices=[tiny-bert]", "-s", "search.max_concurrent=1")
    first, second = json.loads(planned(*arguments)), json.loads(planned(*arguments))
    assert (first["hours"]["basis"], second["hours"]["basis"]) == ("timed steps", "earlier trials")
    assert first["hours"]["expected"] == pytest.approx(second["hours"]["expected"])


def test_a_model_that_cannot_be_trained_is_named(config: str, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')
    with pytest.raises(UserError, match=r"^model\.name: "):
        planned(config, "-s", f"space.model.name.choices=[{folder}]")


def test_a_configuration_that_cannot_be_searched_is_refused(config: str) -> None:
    with pytest.raises(UserError, match=r"--gpu-gib: nan"):
        planned(config, "--gpu-gib", "nan")
    with pytest.raises(UserError, match=r"data.path: .*no-such.csv"):
        planned(config, "-s", "data.path=no-such.csv")
