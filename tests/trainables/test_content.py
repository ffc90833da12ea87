"""Inputs of a search that change or vanish: trials read the original ones or end the search, and no trial fails."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainables.content import InputsChangedError, inputs_checked, model_fingerprint
from trainables.data.split import read_development
from trainables.devices.cpu import CpuDevice
from trainables.models.load import ModelLoadError
from trainables.session import TrainingSession
from trainables.settings import ContentSettings, TrialSettings, with_params


@pytest.fixture
def held(settings: TrialSettings, model_folder: Path, tmp_path: Path) -> TrialSettings:
    """Return the settings of a trial whose search recorded a data file and a model folder."""
    data, model = tmp_path / "rows.csv", tmp_path / "model"
    shutil.copy(settings.data.path, data)
    shutil.copytree(model_folder, model)
    settings = with_params(settings, {"data.path": str(data), "model.name": str(model)})
    fingerprint = read_development(settings.data, None, settings.seeds.split).fingerprint
    return replace(settings, content=ContentSettings(fingerprint, ((str(model), model_fingerprint(model)),)))


def begin(settings: TrialSettings, cache: Path) -> None:
    with inputs_checked(settings):
        TrainingSession(settings, cache, CpuDevice())


def data_of(settings: TrialSettings) -> Path:
    return Path(settings.data.path)


def model_of(settings: TrialSettings) -> Path:
    return Path(settings.model.name)


def appended(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


def replaced(path: Path, text: str, other: str) -> None:
    path.write_text(path.read_text().replace(text, other))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda trial: replaced(data_of(trial), "is tired", "is weary"), "rows.csv has changed since the search began"),
        (lambda trial: data_of(trial).unlink(), "cannot be read now (.*there is no such file"),
        (lambda trial: data_of(trial).write_text(""), "cannot be read now (.*holds no rows"),
        (lambda trial: appended(model_of(trial) / "config.json", "\n"), "has changed since the search began"),
        (lambda trial: (model_of(trial) / "model.safetensors").unlink(), "has changed since the search began"),
        (lambda trial: shutil.rmtree(model_of(trial)), "the folder of .*model is gone"),
    ],
    ids=["other rows", "no file", "an empty file", "another configuration", "no weights", "no model"],
)
def test_inputs_that_changed_are_named_with_the_remedy(
    change: Callable[[TrialSettings], object], expected: str, held: TrialSettings, tmp_path: Path
) -> None:
    begin(held, tmp_path / "cache")
    change(held)
    pattern = expected.replace("(", r"\(")
    with pytest.raises(InputsChangedError, match=rf"^(data\.path|model\.name): .*{pattern}.*; restore (that|it)"):
        begin(held, tmp_path / "cache")


def test_settings_that_no_trial_reads_may_change(held: TrialSettings, tmp_path: Path) -> None:
    begin(held, tmp_path / "cache")
    data_of(held).write_text(data_of(held).read_text())
    (model_of(held) / "README.md").write_text("a card")
    begin(held, tmp_path / "cache")


def test_errors_over_the_same_inputs_stay_what_they_are(held: TrialSettings, tmp_path: Path) -> None:
    def fail() -> None:
        with inputs_checked(held):
            raise ModelLoadError("a trial's own")

    with pytest.raises(ModelLoadError, match="a trial's own"):
        fail()


def test_a_run_that_is_held_to_nothing_reads_what_there_is(held: TrialSettings, tmp_path: Path) -> None:
    free = replace(held, content=ContentSettings())
    replaced(data_of(free), "is tired", "is weary")
    begin(free, tmp_path / "cache")
