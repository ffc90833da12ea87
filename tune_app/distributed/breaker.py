"""Ends of a search before its trials are done, and the circuit breaker, which ends one in which many trials fail."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from tune_app.outcomes import OUTCOME_ATTRIBUTE, REASON_ATTRIBUTE, Outcome

IN_A_ROW = 5
"""Number of failures in a row with the same error type and source line that shows a problem of the search itself."""

FIRST_TRIALS = 20
"""Number of first trials of a search of which at most half may fail."""

_FRAME = re.compile(r'File "(.+)", line (\d+)')


@dataclass(frozen=True)
class Breakage:
    """Reason for which a search was aborted, and the error behind it."""

    why: str
    traceback: str


@dataclass(frozen=True)
class LoopEnd:
    """End of a search's loop, with the reason in a sentence. ``breakage`` is set if the search was aborted."""

    why: str
    interrupted: bool = False
    breakage: Breakage | None = None


class Halt:
    """End of a search before its trials are done, for the first reason that is given.

    Args:
        end: called once with the reason, to end the search.
    """

    def __init__(self, end: Callable[[str], None]) -> None:
        self.breakage: Breakage | None = None
        self._end = end

    def broken(self, breakage: Breakage) -> None:
        """End the search because too many trials fail."""
        if self.breakage is None:
            self.breakage = breakage
            self._end(breakage.why)

    def halted(self, why: str) -> None:
        """End the search because no trial can run."""
        self.broken(Breakage(why, traceback=""))


class CircuitBreaker:
    """Counter of the failures in one run of a search; the causes of earlier runs' failures may be fixed.

    Args:
        broken: called once, when there are too many failures.
    """

    def __init__(self, broken: Callable[[Breakage], None]) -> None:
        self._broken = broken
        self._is_broken = False
        self._closed = self._failed = 0
        self._same: tuple[str, str] | None = None
        self._in_a_row = 0

    def closed(self, trial: FrozenTrial) -> None:
        """Count the outcome of a launched trial."""
        self._closed += 1
        if trial.user_attrs[OUTCOME_ATTRIBUTE] != Outcome.FAILED:
            self._same, self._in_a_row = None, 0
            return
        self._failed += 1
        error = _error_of(trial)
        self._in_a_row = self._in_a_row + 1 if error == self._same else 1
        self._same = error
        if self._is_broken:
            return
        if self._in_a_row == IN_A_ROW:
            self._end(trial, f"{IN_A_ROW} trials in a row failed with one error")
        elif self._closed <= FIRST_TRIALS and self._failed > FIRST_TRIALS / 2:
            self._end(trial, f"{self._failed} of the first {self._closed} trials failed")

    def _end(self, trial: FrozenTrial, why: str) -> None:
        self._is_broken = True
        reason = trial.user_attrs.get(REASON_ATTRIBUTE) or "for no known reason"
        self._broken(Breakage(f"{why}, {reason}", trial.user_attrs.get("error_traceback") or ""))


def _error_of(trial: FrozenTrial) -> tuple[str, str]:
    """Return the error's type, and the file and line of its source; empty if unknown."""
    frames = _FRAME.findall(trial.user_attrs.get("error_traceback") or "")
    return str(trial.user_attrs.get("error_type")), ":".join(frames[-1]) if frames else ""
