"""Facts about models that are known before loading."""

import pytest

from trainables.models.architectures import ARCHITECTURE_NAMES, known_config
from trainables.models.builtin import builtin_config
from trainables.models.families import FAMILIES, Architecture
from trainables.models.names import BUILTIN_NAMES
from trainables.models.sizes import architecture, model_type


def facts(found: Architecture | None) -> tuple[str, int | None, int | None]:
    assert found is not None
    return found.model_type, found.layers, found.longest


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_models_are_what_they_are_said_to_be(name: str) -> None:
    padding = 1 if "roberta" in name else 0
    told = Architecture.of(builtin_config(name, vocab_size=100, pad_token_id=padding).to_dict())
    assert facts(architecture(name)) == facts(told)
    assert model_type(name) == facts(told)[0]


@pytest.mark.parametrize("name", ARCHITECTURE_NAMES)
def test_well_known_models_are_known_without_their_configuration_being_built(name: str) -> None:
    config = known_config(name)
    assert config is not None
    assert facts(architecture(name, fetch=False)) == facts(Architecture.of(config.to_dict()))
    assert model_type(name) in FAMILIES


def test_what_is_not_here_is_not_known() -> None:
    assert architecture("somebody/else", fetch=False) is None
    assert architecture("./nowhere") is None
    assert model_type("somebody/else") is None
