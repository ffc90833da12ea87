"""Data that trials share on a node: rows and tokens without the test part, and a built-in encoder's tokenizer."""

import csv
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from trainables import inputs as module
from trainables.data import tokens
from trainables.data.split import read_development, read_test_rows
from trainables.inputs import load_inputs, prepare_inputs
from trainables.settings import DataSettings, TrialSettings, with_params


def write_rows(path: Path, groups: int) -> DataSettings:
    """Write two rows per group, of both classes, each with a character of its group's own."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "group_id"])
        for group in range(groups):
            writer.writerows([f"some words {own_character(group)}", label, group] for label in (0, 1))
    return DataSettings(str(path))


def own_character(group: int) -> str:
    return chr(ord("一") + group)


@pytest.fixture
def own_data(builtin_settings: TrialSettings, tmp_path: Path) -> TrialSettings:
    """Return settings of a built-in encoder on data whose tokenizer reveals the groups that it was trained on."""
    return replace(builtin_settings, data=write_rows(tmp_path / "rows.csv", groups=30))


def test_a_tokenizer_is_trained_on_the_training_part_alone(own_data: TrialSettings, tmp_path: Path) -> None:
    shares = [{"data.validation_share": 0.1, "data.test_share": 0.3}, {"data.validation_share": 0.3}]
    for changes in (*shares, {"seeds.split": 1}):
        inputs = load_inputs(with_params(own_data, changes), tmp_path / "cache")
        trained_on = {int(inputs.rows.groups[row]) for row in inputs.split.train}
        known = inputs.readers[0].tokenizer.get_vocab().keys()
        assert {group for group in range(30) if own_character(group) in known} == trained_on


def test_a_tokenizer_is_trained_once_by_trials_that_start_together(
    own_data: TrialSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real = module.train_tokenizer

    def counted(name: str, texts: Sequence[str], folder: Path) -> None:
        trained.append(len(texts))
        time.sleep(0.2)  # Long enough for the others to arrive.
        real(name, texts, folder)

    monkeypatch.setattr(module, "train_tokenizer", counted)
    with ThreadPoolExecutor(4) as pool:
        prepared = list(pool.map(lambda _: load_inputs(own_data, tmp_path / "cache"), range(4)))
    again = load_inputs(own_data, tmp_path / "cache")
    # A text in two rows is read once.
    assert trained == [len(set(prepared[0].rows.take(prepared[0].split.train).texts))]
    assert {each.readers[0].tokenizer_folder for each in prepared} == {again.readers[0].tokenizer_folder}
    assert not [path.name for path in (tmp_path / "cache").iterdir() if "partial" in path.name]


def test_a_damaged_tokenizer_is_trained_again(own_data: TrialSettings, tmp_path: Path) -> None:
    folder = load_inputs(own_data, tmp_path / "cache").readers[0].tokenizer_folder
    assert folder is not None
    file = folder / "tokenizer.json"
    written = file.read_text()
    file.write_text(written.replace('"words":', '"wordz":'))
    assert file.read_text() != written
    load_inputs(own_data, tmp_path / "cache")
    assert file.read_text() == written


def test_a_model_with_a_tokenizer_keeps_it(settings: TrialSettings, model_folder: Path, tmp_path: Path) -> None:
    inputs = load_inputs(settings, tmp_path / "cache")
    assert inputs.readers[0].tokenizer_folder is None
    assert inputs.readers[0].source.path == str(model_folder)
    assert inputs.readings[0].pad_token_id == inputs.readers[0].tokenizer.pad_token_id
    assert len(inputs.readers[0].tokens) == len(inputs.rows) == 120


def test_rows_are_read_once_and_again_when_the_file_has_changed(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv", groups=30)
    development = read_development(data, labels=None, split_seed=0)
    assert read_development(data, labels=None, split_seed=0) is development

    write_rows(tmp_path / "rows.csv", groups=36)
    changed = read_development(data, labels=None, split_seed=0)
    tested = [len(read_test_rows(data, labels=None, split_seed=0)), 72 - len(changed.rows)]
    assert (len(development.rows), len(changed.rows), *tested) == (48, 58, 14, 14)
    assert development.fingerprint != changed.fingerprint


def test_a_file_of_the_same_size_and_time_is_another_file(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv", groups=30)
    before = read_development(data, labels=None, split_seed=0)
    times = os.stat(data.path)
    other = tmp_path / "other.csv"
    other.write_text(Path(data.path).read_text().replace("words", "wordz"))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(data.path)
    assert read_development(data, labels=None, split_seed=0).fingerprint != before.fingerprint


def test_a_run_of_a_search_holds_nothing_of_the_test_part(own_data: TrialSettings, tmp_path: Path) -> None:
    tested = set(read_test_rows(own_data.data, labels=None, split_seed=own_data.seeds.split).groups)
    assert len(tested) == 6
    inputs = load_inputs(own_data, tmp_path / "cache")
    assert set(inputs.rows.groups) == {str(group) for group in range(30)} - tested
    assert len(inputs.readers[0].tokens.texts.bounds) - 1 == 24, "one text a group"
    with pytest.raises(ValueError, match="the test part was not loaded"):
        inputs.part("test")


def test_the_test_part_follows_the_same_rows_on_request(own_data: TrialSettings, tmp_path: Path) -> None:
    without = load_inputs(own_data, tmp_path / "cache")
    whole = load_inputs(own_data, tmp_path / "cache", with_test=True)
    assert len(whole.rows) == len(whole.readers[0].tokens) == 60
    for part in ("train", "validation"):
        assert whole.part(part).tolist() == without.part(part).tolist()
        assert whole.rows.take(whole.part(part)).fingerprint == without.rows.take(without.part(part)).fingerprint
    test_rows = read_test_rows(own_data.data, labels=None, split_seed=own_data.seeds.split)
    assert whole.rows.take(whole.part("test")).fingerprint == test_rows.fingerprint
    assert whole.readers[0].tokenizer_folder == without.readers[0].tokenizer_folder


@pytest.mark.parametrize("folds", [None, 2])
def test_a_trial_opens_only_inputs_that_were_prepared_on_another_machine(
    own_data: TrialSettings, folds: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_params(own_data, {"data.folds": folds})
    models = [settings.model.name, "minilm-l6"]
    prepared = prepare_inputs(settings, models, tmp_path / "here")
    assert len(prepared) == 3, "two models' tokens and one's tokenizer"
    for folder in prepared:
        shutil.copytree(folder, tmp_path / "there" / folder.name)

    def refused(*_: object) -> None:
        pytest.fail("prepared again")

    monkeypatch.setattr(module, "train_tokenizer", refused)
    monkeypatch.setattr(tokens, "_build", refused)
    for model in models:
        load_inputs(with_params(settings, {"model.name": model}), tmp_path / "there")
