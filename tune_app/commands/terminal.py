"""Shared parts of the commands: options, the console for output, and the lookup of a study that a person names."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tune_app.errors import UserError, nearest
from tune_app.printable import printable
from tune_app.uris import is_store

if TYPE_CHECKING:
    from tune_app.config import RunConfig
    from tune_app.console import Console
    from tune_app.study.store import StudyStore

RUNS = Path("runs")
"""Folder, in the working directory, that holds the run directories of studies given by name."""

_PIPE_WIDTH = 200
_SHOWN_DIFFERENCES = 3

overrides_option = click.option(
    "-s",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a setting by its dotted name; VALUE is YAML. Repeatable. Entries of the space too: "
    "-s space.train.batch_size.choices='[8, 16]'.",
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


def open_named(study: str, *, exact: bool = False) -> tuple["StudyStore", "RunConfig", Path]:
    """Open a study by its name (under ``RUNS``), its run directory or its URI.

    A name means the newest version of the study; a run directory or a URI means exactly that version.

    Args:
        exact: refuse a name that stands for several versions.

    Returns:
        The study, its recorded configuration and its run directory. Differences in the configuration file are reported.

    Raises:
        UserError: there is no such study.
    """
    from tune_app.study.run_dir import CONFIG_FILE, recorded_config, stored_config
    from tune_app.study.store import load_study

    run_dir = _run_dir_of(study)
    own = RUNS / study
    if exact and is_name(study) and run_dir != own:
        there = [str(path) for path in (own, run_dir) if path.is_dir()]
        raise UserError(
            f"{study}: its newest version is {run_dir.name}; give the run directory of the one that is meant:"
            f" {' or '.join(there)}"
        )
    written = stored_config(run_dir)
    store = load_study(run_dir, written.study.name, written.study.storage)
    config, differences = recorded_config(store, written)
    if differences:
        named = "; ".join(map(str, differences[:_SHOWN_DIFFERENCES]))
        more = len(differences) - _SHOWN_DIFFERENCES
        echo(
            f"headroom: warning: {run_dir / CONFIG_FILE} was changed since the study was searched ({named}"
            f"{f'; and {more} more' if more > 0 else ''}); what the study records counts",
            err=True,
        )
    # Do not resolve links, since callers must recognise a run directory that is a link.
    return store, config, run_dir.absolute()


def is_name(study: str) -> bool:
    """Return whether a person gave a study's name rather than its run directory or URI."""
    from tune_app.study.run_dir import CONFIG_FILE

    return not is_store(study) and not os.path.isfile(Path(study) / CONFIG_FILE)


def _run_dir_of(study: str) -> Path:
    from tune_app.study.remote import fetched
    from tune_app.study.run_dir import CONFIG_FILE
    from tune_app.study.versions import newest_run_dir

    if not is_name(study):
        return fetched(study) if is_store(study) else Path(study)
    run_dir = newest_run_dir(RUNS, study) or RUNS / study
    # Unlike Path.is_file, os.path.isfile accepts any text, such as a name too long for a folder.
    if not os.path.isfile(run_dir / CONFIG_FILE):
        raise UserError(
            f"{study}: no study of that name in ./{RUNS} and no run directory at that path{_near(study)}; a"
            f" run directory holds {CONFIG_FILE}"
        )
    return run_dir


def _near(study: str) -> str:
    known = [path.name for path in RUNS.iterdir() if path.is_dir()] if RUNS.is_dir() else []
    return nearest(Path(study).name, known)


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
        raise UserError("nothing was deleted; study.on_change=fork keeps the study and begins another beside it")
