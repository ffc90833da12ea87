"""Every setting with every kind of invalid value: a rejection is one short line that names the setting."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tune_app.config import parse_config, searchable_names, setting_names
from tune_app.config.common_names import COMMON_NAMES
from tune_app.errors import UserError

LEAST: dict[str, Any] = {
    "study": {"name": "a"},
    "data": {"path": "demo"},
    "model": {"name": "tiny-bert"},
    "space": {"optim.lr": {"choices": [0.1, 0.2]}},
}
LONG = "long " * 5000

ODD: list[Any] = [
    *(None, True, 0, 1, -1, 0.5, -0.5, float("nan"), float("inf"), 10**18, 10**30, 10**6000, 1e300, 1e-300),
    *("", "  ", "text", "3", "a b", "../..", "a\x07b", "a\nb", "a\0b", "\x1b[31m", "\ud800", "\u202e", LONG),
    *("s3://user:hush@bucket/x", b"bytes", [], [1, 2], [[LONG]], [1] * 5000, {}, {"a": 1}, {1: 2}, {LONG: LONG}),
]
SETTINGS = [name for name in setting_names() if not name.startswith(("space", "pinned"))]


def given(name: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(LEAST)
    *sections, key = name.split(".")
    inner = raw
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[key] = value
    return raw


def refusals(name: str, raws: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield the messages that reject a setting's value, with their form checked; any other error is a defect."""
    for raw in raws:
        try:
            parse_config(raw)
        except UserError as error:
            message = str(error)
            assert len(message) < 400, message
            assert len(message.splitlines()) == 1
            assert message.isprintable(), message
            assert name in message, message
            assert "hush" not in message
            yield message


@pytest.mark.parametrize("name", SETTINGS)
def test_a_value_that_a_setting_cannot_have_is_refused_in_a_short_line(name: str) -> None:
    assert len(list(refusals(name, (given(name, value) for value in ODD)))) > len(ODD) / 4


@pytest.mark.parametrize("name", searchable_names())
def test_an_entry_that_no_parameter_can_have_is_refused_in_a_short_line(name: str) -> None:
    entries = [
        *ODD,
        *({"choices": value} for value in ODD),
        *({"choices": [value, value]} for value in ODD),
        *({"low": 1, "high": 2, field: value} for value in ODD for field in ("low", "high", "step", "log", "type")),
    ]
    raws = ({**copy.deepcopy(LEAST), "space": {name: entry}} for entry in entries)
    assert len(list(refusals(f"space.{name}", raws))) > len(entries) / 2


@pytest.mark.parametrize("section", sorted({name.partition(".")[0] for name in SETTINGS}))
def test_a_section_that_is_none_is_refused_in_a_short_line(section: str) -> None:
    assert list(refusals(section, (given(section, value) for value in ODD)))


def test_common_names_are_those_of_settings_and_sections_that_there_are() -> None:
    known = {*setting_names(), *LEAST, *(name.partition(".")[0] for name in setting_names())}
    assert [name for name in COMMON_NAMES if name not in known] == []
    every = [(name.count("."), common) for name, names in COMMON_NAMES.items() for common in names]
    inner = [common for depth, common in every if depth]
    assert sorted({common for common in inner if inner.count(common) > 1}) == []
