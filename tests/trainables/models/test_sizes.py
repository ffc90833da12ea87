"""Facts about models that are known before loading."""

import json
from pathlib import Path

import pytest

from trainables.models.architectures import ARCHITECTURE_NAMES, known_config
from trainables.models.builtin import builtin_config
from trainables.models.families import FAMILIES, Architecture, Family
from trainables.models.names import BUILTIN_NAMES
from trainables.models.sizes import architecture, family_of


def facts(found: Architecture | None) -> tuple[str, int | None, int | None]:
    assert found is not None
    return found.model_type, found.layers, found.longest


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_models_are_what_they_are_said_to_be(name: str) -> None:
    padding = 1 if "roberta" in name else 0
    built = Architecture.of(builtin_config(name, vocab_size=100, pad_token_id=padding).to_dict())
    assert facts(architecture(name)) == facts(built)
    assert family_of(name) is FAMILIES[facts(built)[0]]


@pytest.mark.parametrize("name", ARCHITECTURE_NAMES)
def test_well_known_models_are_known_without_their_configuration_being_built(name: str) -> None:
    config = known_config(name)
    assert config is not None
    assert facts(architecture(name, fetch=False)) == facts(Architecture.of(config.to_dict()))
    assert family_of(name) in FAMILIES.values()


def test_an_absent_model_is_unknown() -> None:
    assert architecture("somebody/else", fetch=False) is None
    assert architecture("./nowhere") is None
    assert family_of("somebody/else") == Family()


@pytest.mark.parametrize(
    ("config", "folder", "kin"),
    [
        ("deberta-v2", "mine", "deberta"),
        ("xlm-roberta", "mine", "roberta"),
        ("camembert", "mine", "roberta"),
        ("bert", "roberta-in-name-only", "bert"),
        ("electra", "bert-in-name-only", None),
        (None, "hub/deberta-v3-base", "deberta"),
        (None, "hub/distilbert-base-uncased", None),
    ],
)
def test_the_configuration_decides_the_family_and_the_name_only_without(
    config: str | None, folder: str, kin: str | None, tmp_path: Path
) -> None:
    if config is None:
        assert family_of(folder).kin == kin
        return
    model = tmp_path / folder
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": config}))
    assert family_of(str(model)).kin == kin


def test_a_model_that_was_missing_is_looked_for_again(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert architecture(str(folder), fetch=False) is None
    folder.mkdir()
    folder.joinpath("config.json").write_text(
        builtin_config("tiny-bert", vocab_size=100, pad_token_id=0).to_json_string()
    )
    assert facts(architecture(str(folder), fetch=False))[0] == "bert"
