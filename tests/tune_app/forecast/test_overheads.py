"""Seconds that a search takes beside its trials, measured and recorded."""

import datetime
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from tune_app.forecast.overheads import Overheads, measured_overheads, record_overheads, recorded_overheads


def trial(number: int, suggested: float, ended: float, queued: float, beside: float | None) -> FrozenTrial:
    attributes = {"suggested_at": suggested, "queued_s": queued, **({} if beside is None else {"beside_s": beside})}
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE,
        value=0.5,
        datetime_start=datetime.datetime.fromtimestamp(suggested),
        datetime_complete=datetime.datetime.fromtimestamp(ended),
        params={},
        distributions={},
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={},
    )


def test_the_first_trials_of_new_workers_are_told_from_the_others() -> None:
    trials = [
        trial(0, 10.0, 50.0, 1.0, 9.0),  # of an earlier search
        trial(1, 115.0, 150.0, 2.0, 6.0),
        trial(2, 116.0, 160.0, 4.0, 4.0),
        trial(3, 150.0, 170.0, 0.1, 0.2),
        trial(4, 160.0, 190.0, 0.1, 0.3),
    ]
    measured = measured_overheads(trials, slots=2, began=100.0, ended=195.0)
    assert measured is not None
    assert (measured.opening_s, measured.closing_s, measured.first_start_s) == pytest.approx((15.0, 5.0, 8.0))
    assert measured.start_s == pytest.approx(0.35)


def test_a_search_of_few_trials_says_nothing() -> None:
    assert measured_overheads([trial(0, 115.0, 150.0, 2.0, 6.0)], slots=2, began=100.0, ended=160.0) is None
    unmeasured = [trial(number, 115.0, 150.0, 2.0, None) for number in range(5)]
    assert measured_overheads(unmeasured, slots=2, began=100.0, ended=160.0) is None


def test_the_median_of_the_latest_searches_counts(tmp_path: Path) -> None:
    file = tmp_path / "searches.jsonl"
    before = recorded_overheads(file)
    for seconds in (1.0, 2.0, 30.0):
        record_overheads(file, Overheads(seconds, seconds, seconds, seconds))
    assert recorded_overheads(file) == Overheads(2.0, 2.0, 2.0, 2.0) != before
