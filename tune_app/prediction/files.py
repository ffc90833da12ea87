"""Predictions from one file to another, with the standard streams as files and a display of the progress."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.progress import BarColumn, Progress, TextColumn

from trainables.prediction.request import Ended, suffix_of
from tune_app.console import Console
from tune_app.durations import duration_text
from tune_app.errors import UserError
from tune_app.folders import check_own_folders
from tune_app.prediction.model import checked_roles, prediction_errors
from tune_app.voice import Voice

if TYPE_CHECKING:
    from trainables.prediction.request import Request

STANDARD = "-"
"""Name of the standard input or output."""


@dataclass(frozen=True)
class Predicted(Ended):
    """End of a run over a file.

    Attributes:
        seconds: time that the rows took that no earlier run had predicted.
    """

    seconds: float


class PredictionStopped(KeyboardInterrupt):
    """Ctrl-C during a run over a file; ``rows`` of it are in the unfinished output, of ``total``."""

    def __init__(self, rows: int, total: int) -> None:
        super().__init__()
        self.rows = rows
        self.total = total


class ProgressDisplay:
    """Display of a run: a bar in a terminal, lines in a log, nothing if quiet. It implements ``run.Watcher``.

    Args:
        quiet: show nothing.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._voice = Voice(console, quiet=quiet)
        self._bar: Progress | None = None
        if not quiet and console.is_terminal:
            self._bar = Progress(BarColumn(), TextColumn("{task.description}"), console=console, transient=True)
            self._task = self._bar.add_task("", total=None)
        self._since = time.monotonic()
        self.rows, self.total, self.resumed = 0.0, 0, 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress within the block."""
        if self._bar is not None:
            with self._bar:
                yield
        else:
            with self._voice:
                yield

    @property
    def seconds(self) -> float:
        """Seconds since the first row."""
        return time.monotonic() - self._since

    def doing(self, what: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=what)
        else:
            self._voice.doing(what)

    def begins(self, rows: int, resumed: int) -> None:
        self._since, self.total, self.rows, self.resumed = time.monotonic(), rows, resumed, resumed
        if resumed:
            self._say(f"goes on after row {resumed:,} of {rows:,}")
        if self._bar is not None:
            self._bar.update(self._task, total=rows, completed=resumed, description=self.text())
        else:
            self._voice.doing(self.text)

    def done(self, rows: float) -> None:
        self.rows = rows
        if self._bar is not None:
            self._bar.update(self._task, completed=rows, description=self.text())

    def text(self) -> str:
        """Return the progress as a line: rows, rate and time left."""
        line = f"{int(self.rows):,} of {self.total:,} rows"
        done = self.rows - self.resumed
        if done <= 0 or self.seconds <= 0:
            return line
        rate = done / self.seconds
        return f"{line}, {_rate_text(rate)}, {duration_text((self.total - self.rows) / rate)} left"

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            self._voice.say(text)


def _rate_text(rate: float) -> str:
    return f"{rate:,.0f} rows/s" if rate >= 10 else f"{rate:.1f} rows/s"


def run_prediction(request: "Request", *, console: Console, quiet: bool) -> Predicted:
    """Predict every row of a file; ``-`` as its source is the standard input, and no output the standard output.

    Raises:
        UserError: the model, the input, a row or the output cannot be used, or the memory does not suffice.
        PredictionStopped: Ctrl-C.
        BrokenPipeError: nobody reads the standard output any more.
    """
    checked_roles(request.columns)
    with prediction_errors():
        if request.out is not None:
            suffix_of(request.out)
    _check_target(request)
    check_own_folders()
    # torch takes seconds to import, so the checks that can refuse the run come before.
    from trainables.prediction.run import predict_file
    from trainables.scratch import scratch_folder

    display = ProgressDisplay(console, quiet=quiet)
    try:
        with display.shown(), prediction_errors(), scratch_folder("input") as scratch:
            if request.source == STANDARD:
                display.doing("reading the standard input")
                request = replace(request, source=str(_spooled(scratch)), called="standard input")
            stream: BinaryIO | None = None if request.out is not None else sys.stdout.buffer
            with _writing(request.out):
                ended = predict_file(request, display, stream)
    except KeyboardInterrupt:
        raise PredictionStopped(int(display.rows), display.total) from None
    return Predicted(ended.rows, ended.bad, ended.resumed, display.seconds)


def _check_target(request: "Request") -> None:
    """Reject an output that cannot be written, or would replace the input.

    Raises:
        UserError: there is such a problem, or there is nothing that ``resume`` could go on with.
    """
    out = request.out
    if out is None:
        if request.resume:
            raise UserError("--resume: the standard output cannot be continued; name a file with --out")
        return
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder; name a file in it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out: there is no folder {out.parent}; make it, or name a file in another one")
    if os.path.exists(request.source) and out.exists() and os.path.samefile(out, request.source):
        raise UserError(f"--out: {out} is the input itself; name another file")


@contextmanager
def _writing(out: Path | None) -> Iterator[None]:
    """Report a failure to write the output.

    Raises:
        UserError: the output file cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if out is None:
            raise
        raise UserError(
            f"--out: {out} cannot be written ({error.strerror or error}); make it writable or free space, and go on"
            " with --resume"
        ) from None


def _spooled(folder: Path) -> Path:
    """Copy the standard input to a file, because it is read twice; its suffix names the format of its content."""
    from trainables.data.formats import suffix_of_content

    waiting = folder / "input"
    with waiting.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
    return waiting.rename(waiting.with_suffix(suffix_of_content(waiting)))
