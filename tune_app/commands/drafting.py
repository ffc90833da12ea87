"""``headroom init``: writes a configuration for a data file."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from tune_app import api
from tune_app.commands.terminal import echo
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.voice import Voice


def print_draft(data: str, target: Path | None, given: Mapping[str, str | None], *, force: bool, quiet: bool) -> None:
    """Print a configuration for a data file, or write it to ``target``.

    Args:
        given: names of columns and of the task, as ``api.init`` takes them.
        force: replace the target if it exists.

    Raises:
        UserError: the data cannot be used, or the target exists or cannot be written.
    """
    if target is not None:
        _check_target(target, force=force)
    terminal = Console(stderr=True)
    with Voice(terminal, quiet=quiet or not terminal.is_terminal) as voice:
        text = api.init(data, doing=voice.doing, **given)
    if target is None:
        echo(text.rstrip("\n"))
        return
    from trainables.files import write_whole

    try:
        write_whole(target, text)
    except OSError as error:
        raise UserError(f"--to: {target} cannot be written ({error.strerror}); name another file") from None
    if not quiet:
        echo(f"wrote {target}\nrun it  headroom search {shlex.quote(str(target))}")


def _check_target(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise UserError(f"--to: {target} is a folder; name a file in it")
    if target.exists() and not force:
        raise UserError(f"--to: {target} exists; name another file, or replace it with --force")
