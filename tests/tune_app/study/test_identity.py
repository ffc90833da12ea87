"""Identity of a study: one experiment. A change of any setting that it does not search makes another study."""

import re
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import parse_config
from tune_app.screening.preconditions import study_record


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("model.name=tiny-roberta", 'model.name: "tiny-bert" there, "tiny-roberta" here'),
        ("train.epochs=2", "train.epochs: 4 there, 2 here"),
        ("search.seed=1", "search.seed: 0 there, 1 here"),
        ("data.validation_share=0.3", "data.validation_share: 0.2 there, 0.3 here"),
    ],
)
def test_another_fixed_setting_is_another_study(override: str, difference: str, plain_config: dict[str, Any]) -> None:
    there = study_record(parse_config(plain_config))
    here = study_record(parse_config(plain_config, [override]))
    assert [str(found) for found in there.differences(here)] == [difference]


@pytest.mark.parametrize(
    "override",
    ["optim.lr=0.5", "memory.micro_batch=4", "search.trials=9", "search.max_concurrent=2", "scheduler.name=asha"],
)
def test_changes_without_effect_on_values_keep_the_study(override: str, plain_config: dict[str, Any]) -> None:
    there = study_record(parse_config(plain_config))
    assert there.differences(study_record(parse_config(plain_config, [override]))) == []
    assert type(there).from_dict(there.as_dict()) == there


def test_a_model_folder_that_holds_something_else_is_another_study(
    plain_config: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (folder / name).write_text(name)
    config = parse_config(plain_config, [f"model.name={folder}"])
    there = study_record(config)
    assert type(there).from_dict(there.as_dict()) == there
    (folder / "README.md").write_text("read by nobody")
    assert there.differences(study_record(config)) == []
    (folder / "model.safetensors").write_text("other weights")
    (difference,) = there.differences(study_record(config))
    assert re.fullmatch(rf"model {folder}: fingerprint \w{{12}} there, fingerprint \w{{12}} here", str(difference))
    # A study from before models had fingerprints can be resumed.
    before = there.as_dict()
    del before["models"]
    assert type(there).from_dict(before).differences(study_record(config)) == []
