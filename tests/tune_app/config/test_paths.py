"""Paths of a configuration become absolute; names of models and addresses stay."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.machine import machine_folder
from trainables.models.names import BUILTIN_NAMES
from tune_app.config import (
    RunConfig,
    parse_config,
)

Parse = Callable[..., RunConfig]


def test_relative_paths_become_absolute_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    config = parse_config(
        {
            "study": {"name": "test", "dir": "out", "storage": "sqlite:///study.db"},
            "data": {"path": "sub/../pairs.csv"},
            "model": {"name": "./my-model"},
            "tracking": {"uri": "sqlite:///mlflow.db"},
            "space": {"model.name": {"choices": ["my-model", "tiny-bert", "owner/name"]}},
        }
    )
    assert config.study.dir == str(tmp_path / "out")
    assert config.run_dir == str(tmp_path / "out" / "test")
    assert config.study.storage == f"sqlite:///{tmp_path}/study.db"
    assert config.data.path == str(tmp_path / "pairs.csv")
    assert config.model.name == str(tmp_path / "my-model")
    assert config.tracking.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert config.space is not None
    assert config.space.entries["model.name"].examples == (str(tmp_path / "my-model"), "tiny-bert", "owner/name")
    monkeypatch.chdir("/")
    assert parse_config(config.as_dict()) == config


def test_names_that_are_no_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = {
        "study": {"name": "test", "dir": "s3://bucket/runs", "storage": "postgresql://u:p@host/db"},
        "data": {"path": "demo"},
        "model": {"name": "bert-base-uncased"},
        "tracking": {"uri": "http://host:5000"},
    }
    config = parse_config(raw)
    assert config.study.dir == "s3://bucket/runs"
    assert config.location == config.checkpoint_dir == "s3://bucket/runs/test"
    assert Path(config.run_dir).parent.parent == machine_folder() / "studies"
    assert config.study.storage == "postgresql://u:p@host/db"
    assert (config.data.path, config.model.name) == ("demo", "bert-base-uncased")
    assert config.tracking.uri == "http://host:5000"


@pytest.mark.parametrize("name", [BUILTIN_NAMES[0], "minilm-l6"])
def test_a_built_in_model_keeps_its_name_beside_a_folder_of_that_name(
    parse: Parse, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert parse(f"model.name={name}").model.name == name


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000, "~nobody-of-this-name/model"])
def test_a_model_name_that_can_be_no_path_is_no_defect(parse: Parse, name: str) -> None:
    assert parse(f"model.name={name}").model.name == name


def test_a_home_folder_is_found(parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    config = parse("data.path=~/pairs.csv", "study.dir=~/runs", "model.name=~/model")
    assert config.data.path == str(tmp_path / "pairs.csv")
    assert config.study.dir == str(tmp_path / "runs")
    assert config.model.name == str(tmp_path / "model")
