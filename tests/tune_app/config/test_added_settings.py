"""Settings that an entry of a registry adds to a section are settings like any other."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from trainables.declaration import add_settings, added, choices_changed, remove_settings, with_values
from trainables.optimizers import OPTIMIZERS
from trainables.recording import recording
from trainables.registry import RegistryError
from trainables.settings import OptimSettings, with_params
from tune_app.config import RunConfig, parse_config, searchable_names, setting_names
from tune_app.config.reference import reference
from tune_app.config.schema import config_schema
from tune_app.errors import UserError

Parse = Callable[..., RunConfig]
ABOUT = "Share of the last step that is kept."


@pytest.fixture(autouse=True)
def momentum() -> Iterator[None]:
    """Add ``optim.momentum``, read with ``optim.name`` lion, for one test."""
    add_settings("optim", "lion", momentum=added(float, 0.9, ABOUT, at_least=0, below=1))
    yield
    remove_settings("optim", "lion")


def test_it_is_known_validated_and_read_by_name(parse: Parse) -> None:
    assert {"optim.momentum"} <= {*setting_names()} & {*searchable_names()}
    assert parse().optim["momentum"] == 0.9
    assert parse("optim.momentum=0.5").trial_settings().optim["momentum"] == 0.5
    for override, message in [
        ("optim.momentum=1.0", r"optim\.momentum: 1\.0: .*less than 1"),
        ("optim.momentum=fast", r"optim\.momentum: 'fast': expected a number"),
        ("optim.momentun=0.5", r"optim\.momentun: .*did you mean optim\.momentum\?"),
    ]:
        with pytest.raises(UserError, match=message):
            parse(override)


def test_it_is_unknown_once_its_entry_is_gone(parse: Parse) -> None:
    remove_settings("optim", "lion")
    with pytest.raises(UserError, match=r"optim\.momentum: unknown setting"):
        parse("optim.momentum=0.5")
    with pytest.raises(KeyError):
        parse().optim["momentum"]


def test_it_can_be_searched_while_its_entry_is_chosen(parse: Parse) -> None:
    searched = "space.optim.momentum.choices=[0.5, 0.9]"
    config = parse("optim.name=lion", searched)
    assert config.active_space().size == 2
    assert config.with_params({"optim.momentum": 0.5}).optim["momentum"] == 0.5
    assert with_params(config.trial_settings(), {"optim.momentum": 0.5}).optim["momentum"] == 0.5
    with pytest.raises(UserError, match=r"space\.optim\.momentum: nothing reads it.*optim\.name=lion"):
        parse(searched)
    with pytest.raises(UserError, match=r"space\.optim\.momentum: 2\.0: .*less than 1"):
        parse("optim.name=lion", "space.optim.momentum.choices=[0.5, 2.0]")


def test_it_is_exported_and_recorded_only_where_it_is_given(parse: Parse) -> None:
    given = parse("optim.momentum=0.5")
    assert given.as_dict()["optim"]["momentum"] == 0.5
    assert given.fixed_for_study()["optim.momentum"] == 0.5
    assert parse_config(given.as_dict()) == given
    assert parse("optim.momentum=0.9") == parse(), "its default is as good as none"
    assert "momentum" not in parse().as_dict()["optim"]
    assert "optim.momentum" not in parse().fixed_for_study()


def test_it_stands_in_the_reference_and_the_schema() -> None:
    assert f"| `optim.momentum` | number | `0.9` | at least 0, below 1 | {ABOUT} |" in reference()
    schema = config_schema()
    base: dict[str, Any] = {"study": {"name": "a"}, "data": {"path": "demo"}}
    validator = Draft202012Validator(schema)
    assert validator.is_valid(
        {**base, "optim": {"momentum": 0.5}, "space": {"optim.momentum": {"low": 0, "high": 0.9}}}
    )
    assert not validator.is_valid({**base, "optim": {"momentum": 1}})


def test_its_use_is_recorded(parse: Parse) -> None:
    settings, read = recording(parse().trial_settings())
    assert settings.optim["momentum"] == 0.9
    assert read == {"optim.momentum"}


def test_entries_share_a_setting_that_they_declare_alike() -> None:
    add_settings("optim", "adafactor", momentum=added(float, 0.9, ABOUT, at_least=0, below=1))
    remove_settings("optim", "lion")
    assert with_values(OptimSettings(), {"momentum": 0.5})["momentum"] == 0.5
    with pytest.raises(ValueError, match=r"optim\.momentum: adamw and adafactor declare it differently"):
        add_settings("optim", "adamw", momentum=added(float, 0.1, ABOUT))
    with pytest.raises(RegistryError, match=r"optim\.momentum: sophia and adafactor declare it differently"):
        OPTIMIZERS["sophia"] = replace(OPTIMIZERS["lion"], settings={"momentum": added(float, 0.1, ABOUT)})
    assert "sophia" not in OPTIMIZERS
    remove_settings("optim", "adafactor")


def test_a_new_entry_of_a_registry_can_be_chosen(parse: Parse) -> None:
    OPTIMIZERS["sophia"] = OPTIMIZERS["lion"]
    choices_changed()
    try:
        assert parse("optim.name=sophia").optim.name == "sophia"
    finally:
        del OPTIMIZERS["sophia"]
        choices_changed()
    with pytest.raises(UserError, match=r"optim\.name: 'sophia': expected one of adamw"):
        parse("optim.name=sophia")
