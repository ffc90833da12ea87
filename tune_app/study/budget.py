"""Budget of a study in hours: whether another trial would end within it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from optuna.trial import FrozenTrial

from search_spaces.space import Params
from tune_app.durations import duration_text
from tune_app.study.remaining import Course, remaining_s
from tune_app.study.reporting import was_launched
from tune_app.study.store import StudyStore

TrialSeconds = Callable[[Params], float | None]
"""Function that returns the seconds of a trial that nothing ends early; None if they are unknown."""
# Most seconds that a killed search may lose of its time.
_RECORD_EVERY_S = 10.0


@dataclass(frozen=True)
class Budget:
    """Budget of a study.

    Attributes:
        max_s: seconds that the study may take, over all its searches.
        course: course of the study's trials.
        trial_s: seconds of a configuration, by the plan.
    """

    max_s: float
    course: Course
    trial_s: TrialSeconds

    def why_not(self, params: Params, trials: Sequence[FrozenTrial], taken_s: float) -> str | None:
        """Return the reason why a trial may not be launched; None if it may.

        It would end with the last of the open trials, or after its own seconds, whichever is later.

        Args:
            trials: every trial of the study.
            taken_s: seconds that the study has taken.
        """
        launched = sum(map(was_launched, trials))
        # Before the first report, nothing is known but the plan.
        all_s = remaining_s(trials, launched + 1, self.course) or 0.0
        needed_s = max(self.trial_s(params) or 0.0, all_s)
        if taken_s + needed_s <= self.max_s:
            return None
        return (
            f"the study has taken {duration_text(taken_s)} of search.max_hours {self.max_s / 3600:g}, and another trial"
            f" would end in about {duration_text(needed_s)}; the same command with a larger search.max_hours goes on"
        )


class SearchClock:
    """Clock of the time that a study has taken, over all its searches.

    Args:
        began: ``time.monotonic()`` at the begin of the search.
    """

    def __init__(self, store: StudyStore, began: float) -> None:
        self._store = store
        self._before_s = store.time.taken_s
        self._began = self._recorded = began

    @property
    def taken_s(self) -> float:
        """Seconds that the study has taken until now."""
        return self._before_s + time.monotonic() - self._began

    def keep(self) -> None:
        """Record the taken time in the study, unless that was done within the last seconds: a write is slow."""
        if time.monotonic() - self._recorded >= _RECORD_EVERY_S:
            self.record()

    def record(self) -> None:
        """Record the taken time in the study."""
        self._recorded = time.monotonic()
        self._store.set_time(replace(self._store.time, taken_s=self.taken_s))
