"""Errors that a search raises before it starts."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from trainables.models import load
from trainables.models.load import ModelLoadError
from trainables.stand_ins import small_model
from tune_app.cli import main
from tune_app.config import RunConfig, parse_config
from tune_app.errors import UserError
from tune_app.screening.preconditions import check_models


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Return the list of models and revisions whose tokenizer was requested from the hub, which gives none."""
    names: list[tuple[str, str | None]] = []

    def refused(name: str, revision: str | None = None) -> Any:
        names.append((name, revision))
        raise ModelLoadError(f"tokenizer of {name!r}: no connection")

    monkeypatch.setattr(load, "load_tokenizer", refused)
    return names


def config_of(**model: Any) -> RunConfig:
    space = {"model.name": {"choices": ["tiny-bert", "owner/encoder"]}, "optim.lr": {"choices": [0.1, 0.2]}}
    return parse_config({"study": {"name": "x"}, "data": {"path": "demo"}, "model": model, "space": space})


def test_a_hub_that_does_not_give_a_model_is_told_before_the_first_trial(asked: list[tuple[str, str | None]]) -> None:
    with pytest.raises(UserError, match=r"model.name: tokenizer of 'owner/encoder': no connection"):
        check_models(config_of(), from_here=True)
    assert asked == [("owner/encoder", None)]


def test_trials_on_other_machines_fetch_from_the_hub_themselves(asked: list[tuple[str, str | None]]) -> None:
    check_models(config_of(), from_here=False)
    assert asked == []


@pytest.mark.parametrize("command", [["search", "c.yaml"], ["train", "c.yaml", "--to", "out"], ["memory", "c.yaml"]])
def test_a_family_that_cannot_be_scored_is_refused_before_anything_is_trained(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model(AutoConfig.for_model("fnet"), tmp_path / "fnet")
    config: dict[str, Any] = {"study": {"name": "x"}, "data": {"path": "demo", "max_rows": 100}}
    config["model"] = {"name": "fnet"}
    if command[0] == "search":
        config["space"] = {"optim.lr": {"choices": [0.1, 0.2]}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    quiet = [] if command[0] == "memory" else ["--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*command, *quiet])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith(f"headroom: model.name: model '{tmp_path}/fnet': the outputs of fnet encoders change")
    assert len(err.splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.yaml", "fnet"]
