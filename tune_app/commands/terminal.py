"""Shared parts of the commands: options, the console for output, and the lookup of a study that a person names."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from tune_app.errors import UserError
from tune_app.printable import printable

if TYPE_CHECKING:
    from tune_app.api import Study
    from tune_app.console import Console

_PIPE_WIDTH = 200

overrides_option = click.option(
    "-s",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a setting by its dotted name, or an entry of the space: -s space.train.batch_size.choices='[8, 16]'."
    " VALUE is YAML. Repeatable.",
)
quiet_option = click.option("--quiet", is_flag=True, help="Print the result only.")


def echo(text: str, *, err: bool = False) -> None:
    """Print lines, to the standard error if ``err`` is set; nothing in them can control the terminal."""
    click.echo(printable(text), err=err)


def make_console() -> "Console":
    """Return the console for a terminal, or for a pipe, which gets no colours."""
    from tune_app.console import Console

    console = Console()
    # A pipe has no width, and the default of 80 columns would fold every row of a table.
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def warn(text: str) -> None:
    """Print a warning to the standard error."""
    echo(f"headroom: warning: {text}", err=True)


def open_named(study: str, *, exact: bool = False, say: Callable[[str], None] = warn) -> "Study":
    """Open the study that a person names, and report differences in its configuration file.

    Args:
        exact: refuse a name that stands for several versions.
        say: called with a message on each difference.

    Raises:
        UserError: there is no such study.
    """
    from tune_app import api
    from tune_app.study.named import open_study

    opened = api.Study(open_study(study, exact=exact))
    for warning in opened.warnings:
        say(warning)
    return opened


def consent(yes: bool, question: str) -> None:
    """Ask a person to agree to a deletion; ``yes`` means that they agreed beforehand.

    Raises:
        UserError: there is nobody to ask, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} There is no terminal to ask on; give --yes to agree")
    if not click.confirm(printable(question)):
        raise UserError(
            "nothing was deleted; with study.on_change=fork the study stays and a new version starts beside it"
        )


def agree_to_hours(yes: bool, question: str) -> None:
    """Ask a person to agree to a long search. ``yes``, or no terminal, means that nobody is asked.

    Raises:
        UserError: the answer is no.
    """
    if yes or not sys.stdin.isatty():
        return
    if not click.confirm(printable(question), default=True):
        raise UserError(
            "search.max_hours: the search was not begun; lower search.trials, or see headroom plan for what takes long"
        )
