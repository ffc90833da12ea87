"""``headroom plan``: the contract's JSON, the printed plan, and refusals."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

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


def planned(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["plan", *arguments], catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_the_plan_has_the_contracts_keys_and_writes_nothing(config: str, tmp_path: Path) -> None:
    plan = json.loads(planned(config, "--json"))
    assert (plan["study"], plan["trials"]) == ("planned", 5)
    assert plan["space"]["size"] == 8
    assert plan["space"]["can_run"] == pytest.approx(1 - plan["space"]["rejected"]["memory"])
    assert {row["model"] for row in plan["memory"]} == {"tiny-bert", "small-deberta"}
    assert all(row["length"] == 32 and row["need_gib"] > 0 for row in plan["memory"])
    assert plan["packing"]["at_once"] in (1, 2)
    assert sum(plan["packing"]["shares"].values()) == pytest.approx(1)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "plan.yaml"]


def test_the_values_that_suffer_most_are_named(config: str) -> None:
    tight = planned(config, "-s", "memory.device_gib=0.03")
    assert "memory rejects 50.0%; most of model.name=small-deberta 100%" in tight
    assert "counted exactly" in tight


def test_another_card_is_planned_for(config: str) -> None:
    rows = json.loads(planned(config, "--gpu-gib", "24", "--json"))["memory"]
    assert all(row["max_micro_batch"] > 1000 for row in rows)


def test_a_configuration_that_cannot_be_searched_is_refused(config: str) -> None:
    with pytest.raises(UserError, match=r"--gpu-gib: nan"):
        planned(config, "--gpu-gib", "nan")
    with pytest.raises(UserError, match=r"data.path: .*no-such.csv"):
        planned(config, "-s", "data.path=no-such.csv")
