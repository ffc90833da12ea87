"""``headroom predict``: predictions of a saved model from one file to another."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tune_app import api
from tune_app.commands.terminal import echo
from tune_app.console import Console
from tune_app.durations import duration_text
from tune_app.errors import UserError
from tune_app.prediction.files import STANDARD, Predicted, PredictionStopped


def print_predictions(
    model: Path, source: str, out: str | None, columns: Sequence[str], *, quiet: bool, **options: Any
) -> bool:
    """Run the command, and return whether Ctrl-C stopped it.

    Args:
        columns: ``ROLE=COLUMN`` each.
        options: the further options of ``api.predict_file``.

    Raises:
        UserError: see ``api.predict_file``.
    """
    target = None if out in (None, STANDARD) else out
    console = Console(stderr=True)
    try:
        ended = api.predict_file(
            model, source, target, columns=_by_role(columns), quiet=quiet, console=console, **options
        )
    except PredictionStopped as stop:
        echo(f"headroom: {_stopped_line(stop, target)}", err=True)
        return True
    except BrokenPipeError:
        # Whoever read the output has enough. What is still buffered for it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    if target is not None and not quiet:
        console.say(_end_line(ended, target))
    return False


def _by_role(columns: Sequence[str]) -> dict[str, str]:
    named = {}
    for given in columns:
        role, sign, column = given.partition("=")
        if not sign or not column:
            raise UserError(f"--columns: {given!r} is not ROLE=COLUMN; give for example text=post")
        named[role.strip()] = column
    return named


def _stopped_line(stop: PredictionStopped, target: str | None) -> str:
    if target is None:
        return f"interrupted after {stop.rows:,} rows; with --out FILE, a run that is cut off can go on"
    if not stop.total:
        return "interrupted before the first prediction; run the same command again"
    return f"interrupted at row {stop.rows:,} of {stop.total:,}; go on with the same command and --resume"


def _end_line(ended: Predicted, target: str) -> str:
    done = ended.rows - ended.resumed
    rate = f" ({done / ended.seconds:,.0f} rows/s)" if done and ended.seconds > 0 else ""
    bad = f", {ended.bad:,} of them without a prediction (column error)" if ended.bad else ""
    return f"wrote {target}: {ended.rows:,} rows{bad}, {duration_text(ended.seconds)}{rate}"
