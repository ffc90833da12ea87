"""Limits of a configuration: names, the user's own, or several of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.rules import LimitSet
from tune_app.config import (
    RunConfig,
    dump_yaml,
    load_config,
    parse_config,
)

Parse = Callable[..., RunConfig]

USERS_24GB = LimitSet.model_validate({"from": "users_24gb"})


OWN = LimitSet.model_validate({"large": {"batch": 8}})


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ("null", ()),
        ("predicted", ("predicted",)),
        ("users_24gb", (USERS_24GB,)),
        ("users_families", ("users_families",)),
        ("{large: {batch: 8}}", (OWN,)),
        ("[]", ()),
        ("[predicted, users_24gb, users_families]", ("predicted", USERS_24GB, "users_families")),
        ("[{large: {batch: 8}}, predicted]", (OWN, "predicted")),
    ],
)
def test_limits_are_a_name_ones_own_or_several_together(parse: Parse, given: str, limits: Any, tmp_path: Path) -> None:
    config = parse(f"limits={given}")
    assert config.limits == limits
    assert parse_config(config.as_dict()) == config
    dump_yaml(config.as_dict(), tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_prediction_alone_turns_away_by_default(parse: Parse) -> None:
    assert parse().limits == ("predicted",)
    assert parse().as_dict()["limits"] == "predicted"


@pytest.mark.parametrize(
    ("overrides", "limits"),
    [
        (["limits.large.batch=8"], ("predicted", OWN)),
        (["limits=null", "limits.large.batch=8"], (OWN,)),
        (["limits=[users_families]", "limits.large={batch: 8}"], ("users_families", OWN)),
        (
            ["limits=[predicted, users_24gb]", "limits.large.batch=8"],
            ("predicted", LimitSet.model_validate({"from": "users_24gb", "large": {"batch": 8}})),
        ),
    ],
)
def test_an_override_changes_ones_own_limits_and_leaves_the_others(
    parse: Parse, overrides: list[str], limits: Any
) -> None:
    assert parse(*overrides).limits == limits
