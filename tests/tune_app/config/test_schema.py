"""The JSON schema and the reference page say what the validator does, and the shipped copies are current."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from tune_app.config import RunConfig, parse_config, searchable_names, setting_names
from tune_app.config.reference import reference
from tune_app.config.schema import config_schema
from tune_app.errors import UserError

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SCHEMA = config_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def with_setting(name: str, value: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {"study": {"name": "test"}, "data": {"path": "demo"}}
    section, _, key = name.partition(".")
    if not key:
        return {**raw, section: value}
    return {**raw, section: {**raw.get(section, {}), key: value}}


def test_the_schema_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_shipped_schema_is_current() -> None:
    shipped = json.loads((ROOT / "configs" / "schema.json").read_text(encoding="utf-8"))
    assert shipped == SCHEMA, "run: headroom config schema > configs/schema.json"


def test_the_reference_page_is_current() -> None:
    shipped = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert shipped == reference(), "run: headroom config reference > docs/reference/settings.md"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_names_the_schema_and_follows_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert [error.message for error in VALIDATOR.iter_errors(YAML(typ="safe").load(text))] == []


def test_a_resolved_configuration_follows_the_schema() -> None:
    resolved = parse_config(
        {**with_setting("space", {"from": "wide"}), "limits": ["predicted", {"large": {"batch": 8}}]}
    )
    assert [error.message for error in VALIDATOR.iter_errors(json.loads(json.dumps(resolved.as_dict())))] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.batch_size", 0),
        ("train.batch_size", "16"),
        ("train.batch_sizes", 16),
        ("train.patience", -1),
        ("optim.lr", 2),
        ("optim.name", "adam"),
        ("memory.micro_batch", "most"),
        ("memory.micro_batch", 0),
        ("checkpoint.keep", -1),
        ("search.metric", []),
        ("scheduler.warmup", 0),
        ("limits", "users_24g"),
        ("space", {"from": "wid"}),
        ("space", {"optim.l": {"choices": [0.1]}}),
        ("space", {"optim.lr": 0.1}),
        ("space", {"optim.lr": {"choices": []}}),
        ("space", {"optim.lr": {"low": 0.1, "high": 2.0}}),
        ("space", {"optim.lr": {"low": 0.1}}),
        ("space", {"train.epochs": {"choices": [1, 2]}}),
        ("space", {"head.pooling": {"choices": ["cls", "men"]}}),
        ("space", {"head.pooling": {"low": 1, "high": 2}}),
    ],
)
def test_the_schema_refuses_what_the_validator_refuses(name: str, value: Any) -> None:
    raw = with_setting(name, value)
    assert not VALIDATOR.is_valid(raw)
    with pytest.raises(UserError):
        parse_config(raw)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.patience", None),
        ("optim.lr", 1),
        ("memory.micro_batch", "auto"),
        ("memory.micro_batch", 4),
        ("checkpoint.keep", "none"),
        ("resources.gpu", 0.25),
        ("scheduler.rung", 0.25),
        ("scheduler.warmup_epochs", 2),
        ("search.metric", "accuracy"),
        ("task.labels", ["no", 1, True]),
        ("limits", ["predicted", {"from": "users_24gb"}]),
        ("space", {"from": "narrow", "optim.lr": None}),
        ("space", {"optim.lr": {"low": 1e-5, "high": 0.1, "log": True}}),
        ("space", {"train.batch_size": {"low": 8, "high": 64, "step": 8}}),
        ("space", {"train.checkpointing": {"choices": [False, True]}}),
    ],
)
def test_the_schema_accepts_what_the_validator_accepts(name: str, value: Any) -> None:
    raw = with_setting(name, value)
    parse_config(raw)
    assert [error.message for error in VALIDATOR.iter_errors(raw)] == []


def test_the_schema_knows_every_parameter_of_a_space_and_when_it_is_read() -> None:
    entries = SCHEMA["properties"]["space"]["anyOf"][0]["properties"]
    assert set(entries) == {"from", *searchable_names()}
    assert entries["loss.gamma"]["description"].endswith("Read only with loss.name=focal.")


def test_the_reference_describes_every_setting() -> None:
    page = reference()
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    settings = {name for name in setting_names() if name != "pinned"}
    inner = {name for name in rows if name.startswith(("`space.", "`limits."))}
    assert set(rows) - inner == {f"`{name}`" for name in settings}
    assert {"`limits.large.batch`", "`space.NAME.choices`", "`space.NAME.log`"} <= inner
    assert all(line.split("|")[-2].strip().endswith(".") for line in rows.values()), "each has a description"
    assert rows["`train.batch_size`"].startswith(
        "| `train.batch_size` | whole number | `16` | above 0, at most 65,536 |"
    )


def test_the_commands_print_the_page_and_the_schema(
    headroom: Callable[..., Any], parse: Callable[..., RunConfig]
) -> None:
    page, schema = headroom("config", "reference"), headroom("config", "schema")
    assert (page.code, page.out) == (0, reference())
    assert (schema.code, json.loads(schema.out)) == (0, SCHEMA)
