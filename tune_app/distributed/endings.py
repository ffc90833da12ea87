"""Reasons to end a search before its last trial: its budget of hours, and the gain that is still to be expected."""

from collections.abc import Callable
from dataclasses import dataclass

from search_spaces.space import Params
from tune_app.sampling.expected_gain import why_pointless
from tune_app.study.budget import Budget
from tune_app.study.reporting import was_launched
from tune_app.study.store import StudyStore


@dataclass(frozen=True)
class Endings:
    """Reasons to end a search before its last trial.

    Attributes:
        budget: budget of hours; None sets no limit.
        noise: standard error of the metric; None lets no expected gain end the search.
        taken_s: returns the seconds that the study has taken.
    """

    store: StudyStore
    budget: Budget | None
    noise: float | None
    taken_s: Callable[[], float]

    def why(self, params: Params) -> str | None:
        """Return the reason to end the search instead of launching this configuration; None without one."""
        if self.budget is None and self.noise is None:
            return None
        trials = self.store.trials()
        if self.noise is not None:
            more = self.store.target - sum(map(was_launched, trials))
            if (why := why_pointless(trials, self.noise, more)) is not None:
                return why
        return None if self.budget is None else self.budget.why_not(params, trials, self.taken_s())
