"""The page of commands is made from the command line, and the shipped copy is current."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tune_app.cli import cli
from tune_app.commands.reference import command_reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands.md"


def test_the_shipped_page_is_current_and_the_command_prints_it(headroom: Callable[..., Any]) -> None:
    printed = headroom("config", "commands")
    assert (printed.code, printed.out) == (0, command_reference(cli))
    assert PAGE.read_text(encoding="utf-8") == printed.out, "run: headroom config commands > docs/reference/commands.md"


def test_every_command_and_option_has_a_meaning() -> None:
    page = command_reference(cli)
    assert {"## headroom search", "## headroom study fork", "## headroom config schema"} <= set(page.splitlines())
    assert "| `-s KEY=VALUE` |" in page
    rows = [line for line in page.splitlines() if line.startswith("| `-")]
    assert [row for row in rows if row.endswith("|  |")] == []


def test_a_hidden_command_is_left_out_and_a_bar_in_a_text_is_escaped() -> None:
    @click.group()
    def group() -> None:
        """Group."""

    @group.command()
    @click.option("--way", help="left | right")
    def shown(way: str) -> None:
        """Shown."""

    @group.command(hidden=True)
    def secret() -> None:
        """Secret."""

    page = command_reference(group)
    assert "left \\| right" in page
    assert "secret" not in page
