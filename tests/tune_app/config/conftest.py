"""The least configuration, and the form of an error message."""

from collections.abc import Callable
from typing import Any

import pytest

from tune_app.config import RunConfig, parse_config
from tune_app.errors import UserError


@pytest.fixture
def least() -> dict[str, Any]:
    """Return the least that a configuration needs."""
    return {"study": {"name": "test", "dir": "/runs"}, "data": {"path": "demo"}}


@pytest.fixture
def parse(least: dict[str, Any]) -> Callable[..., RunConfig]:
    """Return a function that parses the least configuration with overrides."""
    return lambda *overrides: parse_config(least, overrides)


@pytest.fixture
def assert_one_line() -> Callable[[pytest.ExceptionInfo[UserError], list[str]], None]:
    """Return a function that checks an error's message: one line, without a traceback, with all of some parts."""

    def check(caught: pytest.ExceptionInfo[UserError], parts: list[str]) -> None:
        message = str(caught.value)
        assert len(message.splitlines()) == 1, message
        assert "Traceback" not in message
        assert [part for part in parts if part not in message] == [], message

    return check
