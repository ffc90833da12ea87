"""Output of a long command: its lines, with the time if they go to a log, and a message after a long silence."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Self

from tune_app.console import Console
from tune_app.durations import duration_text

_SILENCE_S = 10.0
_LONGEST_SILENCE_S = 600.0


class Voice:
    """Printer of lines that also reports the current activity after ten seconds of silence, then after twice as long.

    A thread prints these reports, since the work occupies the caller's own. It runs inside the ``with`` block.

    Args:
        quiet: print nothing.
        silence_s: seconds of silence before the first report.
    """

    def __init__(self, console: Console, *, quiet: bool = False, silence_s: float = _SILENCE_S) -> None:
        self.console = console
        self.is_quiet = quiet
        self._silence_s = silence_s
        self._what: str | Callable[[], str] = ""
        self._since = self._spoke = time.monotonic()
        self._gap = silence_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._break_silence, name="voice", daemon=True)

    def __enter__(self) -> Self:
        if not self.is_quiet:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def silent_s(self) -> float:
        """Seconds since anything was printed."""
        return time.monotonic() - self._spoke

    def say(self, text: str) -> None:
        """Print lines."""
        self.heard()
        self._print(text)

    def doing(self, what: str | Callable[[], str]) -> None:
        """Set the current activity, which is printed only if it lasts.

        Args:
            what: description, to which the elapsed time is added; or a function that returns the whole text.
        """
        self._what, self._since, self._gap = what, time.monotonic(), self._silence_s

    def heard(self) -> None:
        """Note that something was shown by other means."""
        self._spoke, self._gap = time.monotonic(), self._silence_s

    def _break_silence(self) -> None:
        while not self._over.wait(min(0.5, self._silence_s / 4)):
            what = self._what
            if self.silent_s < self._gap or not what:
                continue
            self._spoke, self._gap = time.monotonic(), min(2 * self._gap, _LONGEST_SILENCE_S)
            if text := f"{what} ({duration_text(time.monotonic() - self._since)})" if isinstance(what, str) else what():
                self._print(text)

    def _print(self, text: str) -> None:
        if self.is_quiet:
            return
        if not self.console.is_terminal:
            now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
            text = "\n".join(f"{now}  {line}" for line in text.splitlines())
        self.console.say(text)
