"""Circuit breaker: it ends a search in which everything fails for one reason, but none in which some trials fail."""

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune_app.distributed.breaker import FIRST_TRIALS, IN_A_ROW, Breakage, CircuitBreaker, Halt
from tune_app.outcomes import OUTCOME_ATTRIBUTE, REASON_ATTRIBUTE, Outcome

TRACEBACK = (
    'Traceback (most recent call last):\n  File "a.py", line {line}, in f\n    g()\n  File "b.py", line 3, in g\n'
)


def complete() -> FrozenTrial:
    return create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs={OUTCOME_ATTRIBUTE: Outcome.COMPLETE.value})


def ran_out() -> FrozenTrial:
    return create_trial(state=TrialState.PRUNED, user_attrs={OUTCOME_ATTRIBUTE: Outcome.OOM.value})


def failed(error: str = "KeyError", place: int = 3) -> FrozenTrial:
    attributes: dict[str, Any] = {
        OUTCOME_ATTRIBUTE: Outcome.FAILED.value,
        REASON_ATTRIBUTE: f"{error}: 'text'",
        "error_type": error,
        "error_traceback": TRACEBACK.replace("line 3,", f"line {place},").format(line=place + 100),
    }
    return create_trial(state=TrialState.FAIL, user_attrs=attributes)


def breakages(trials: list[FrozenTrial]) -> list[tuple[int, Breakage]]:
    """Return how many trials had ended when the search was stopped, and the reason."""
    found: list[tuple[int, Breakage]] = []
    closed: list[FrozenTrial] = []
    breaker = CircuitBreaker(lambda breakage: found.append((len(closed), breakage)))
    for trial in trials:
        closed.append(trial)
        breaker.closed(trial)
    return found


def test_one_error_in_a_row_is_shown_once_with_its_traceback() -> None:
    ((closed, breakage),) = breakages([complete(), *[failed()] * 2 * IN_A_ROW])
    assert closed == 1 + IN_A_ROW
    assert breakage.why == "5 trials in a row failed with one error, KeyError: 'text'"
    assert 'File "b.py", line 3, in g' in breakage.traceback


@pytest.mark.parametrize("between", [complete(), ran_out(), failed("ValueError"), failed(place=4)])
def test_whatever_comes_between_begins_the_row_anew(between: FrozenTrial) -> None:
    row = [failed()] * (IN_A_ROW - 1)
    assert breakages([*[complete()] * FIRST_TRIALS, *row, between, *row]) == []
    assert len(breakages([*[complete()] * FIRST_TRIALS, *row, between, *row, failed()])) == 1


def test_more_than_half_of_the_first_trials_are_too_many() -> None:
    different = [failed(place=line) for line in range(FIRST_TRIALS)]
    half = [trial for pair in zip(different[:10], [complete()] * 10, strict=True) for trial in pair]
    assert breakages(half) == []
    assert [closed for closed, _ in breakages([*half[:-1], failed("OSError")])] == [FIRST_TRIALS]
    assert [closed for closed, _ in breakages(different)] == [11]
    assert breakages([*half, *different[:IN_A_ROW], complete()]) == [], "they were not among the first"


def test_an_error_without_a_traceback_counts_by_its_type() -> None:
    lost = create_trial(
        state=TrialState.FAIL,
        user_attrs={OUTCOME_ATTRIBUTE: Outcome.FAILED.value, "error_type": "WorkerLost", "error_traceback": ""},
    )
    ((closed, breakage),) = breakages([lost] * IN_A_ROW)
    assert (closed, breakage.traceback) == (IN_A_ROW, "")
    assert breakage.why.endswith("for no known reason")


def test_a_search_ends_once_for_the_first_reason() -> None:
    reasons: list[str] = []
    halt = Halt(reasons.append)
    assert halt.breakage is None
    halt.halted("the disk is full")
    halt.broken(Breakage("5 trials in a row failed", "a traceback"))
    assert (reasons, halt.breakage) == (["the disk is full"], Breakage("the disk is full", ""))
