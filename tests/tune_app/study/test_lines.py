"""Lines that people read about a study: counts, the best trial and its metric, baselines, and outcomes."""

from pathlib import Path
from typing import Any

import pytest

from search_spaces.rules import Violation
from search_spaces.space import parse_space
from tune_app.outcomes import Outcome
from tune_app.study.lines import baseline_lines, closing_line, cut_lines, summary_lines, what_of
from tune_app.study.record import StudyRecord
from tune_app.study.reporting import study_status, varying
from tune_app.study.store import StudyStore, open_study

SPACE = {"train.batch_size": {"choices": [8, 16, 32]}, "head.pooling": {"choices": ["cls", "mean"]}}
PARAMS = {"train.batch_size": 8, "head.pooling": "cls"}


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    record = StudyRecord(parse_space(SPACE), "criteria", "macro_f1", "max", "data", fixed={"train.epochs": 4})
    store = open_study(tmp_path, "x", None, record)
    store.set_target(9)
    return store


def trial(store: StudyStore, outcome: Outcome | None, *values: float, **attributes: Any) -> int:
    number = store.open_trial(PARAMS, {})
    for step, value in enumerate(values, start=1):
        store.report(number, step, value)
    if outcome is None:
        store.set_attributes(number, attributes)
        return number
    value = max(values) if outcome is Outcome.COMPLETE else None
    store.close_trial(number, outcome, value=value, reason="why", attributes={"working_s": 75.0, **attributes})
    return number


def test_the_summary_tells_waiting_from_running_and_the_best_from_what_is_ahead(store: StudyStore) -> None:
    trial(store, Outcome.COMPLETE, 0.5, 0.6, metrics={"majority_macro_f1": 0.25})
    trial(store, None, 0.4, 0.7, 0.65)
    trial(store, None, 0.3, waits_at=1)
    store.record_infeasible(PARAMS, [Violation("memory", "too large", 1.0)])
    status = study_status(store, is_running=True)
    assert status.trials["running"] == 2, "the contract counts waiting trials among the running"
    assert summary_lines(status, 125) == [
        "about 2 min 5 s left; 3 of 9 launched: 1 complete, 1 running, 1 waiting at a rung; 1 rejected",
        "best macro_f1 0.6000 (trial 0), of 1 complete; baseline 0.2500",
        "ahead, but not complete: trial 1 (running), macro_f1 0.7000 in epoch 2",
    ]
    interrupted = study_status(store, is_running=False)
    assert "2 interrupted" in summary_lines(interrupted, None)[0]
    assert summary_lines(interrupted, None)[-1].startswith("ahead, but not complete: trial 1 (interrupted)")


def test_something_is_left_of_what_runs(store: StudyStore) -> None:
    trial(store, None, 0.5)
    assert summary_lines(study_status(store, is_running=True), 0.2)[0].startswith("about 1 s left; ")


def test_a_trial_that_waits_no_more_runs(store: StudyStore) -> None:
    number = trial(store, None, 0.3, waits_at=1)
    store.report(number, 2, 0.4)
    assert study_status(store, is_running=True).waiting == 0


def test_the_baseline_is_known_from_the_first_report_on(store: StudyStore) -> None:
    trial(store, None, 0.3, **{"metrics.epoch_1": {"macro_f1": 0.3, "majority_macro_f1": 0.25}})
    assert study_status(store, is_running=True).baseline == 0.25


def test_the_baselines_of_the_data_stand_before_what_trials_measured(store: StudyStore) -> None:
    trial(store, Outcome.COMPLETE, 0.6, metrics={"majority_macro_f1": 0.25})
    store.set_baselines({"always 'no'": 0.25, "guessing by class shares": 0.5})
    status = study_status(store, is_running=True)
    assert status.baseline == 0.5
    assert baseline_lines(status.baselines) == [
        "always 'no' scores 0.2500",
        "guessing by class shares scores 0.5000",
    ]


def test_a_collapsed_trial_is_marked(store: StudyStore) -> None:
    number = trial(store, Outcome.COMPLETE, 0.5, collapsed=True)
    running = trial(store, None, 0.3, **{"metrics.epoch_1": {"macro_f1": 0.3, "collapsed": 1.0}})
    status = study_status(store, is_running=True)
    assert "(trial 0, collapsed: one answer for every row)" in summary_lines(status, None)[1]
    assert status.as_dict()["best"]["is_collapsed"] is True
    for one in (number, running):
        assert what_of(store.trial(one), PARAMS).startswith("collapsed: batch_size=8")


@pytest.mark.parametrize(
    ("outcome", "values", "shown_text"),
    [
        (Outcome.COMPLETE, (0.5, 0.75), "complete 0.7500 in 1 min 15 s"),
        (Outcome.STOPPED, (0.5, 0.25), "stopped at 0.5000 in 1 min 15 s"),
        (Outcome.FAILED, (), "failed in 1 min 15 s: why"),
        (Outcome.OOM, (), "oom in 1 min 15 s: why"),
    ],
)
def test_a_closing_line_is_short(
    outcome: Outcome, values: tuple[float, ...], shown_text: str, store: StudyStore
) -> None:
    ended = store.trial(trial(store, outcome, *values))
    assert closing_line(ended, store.record.objectives, store.record.step_scale) == shown_text


def test_only_parameters_that_differ_are_worth_a_word(store: StudyStore) -> None:
    store.open_trial(PARAMS, {})
    assert varying(store.trials()) == set(PARAMS)
    store.record_infeasible({**PARAMS, "head.pooling": "mean"}, [Violation("memory", "too large", 1.0)])
    store.open_trial({**PARAMS, "train.batch_size": 16}, {})
    assert varying(store.trials()) == {"train.batch_size"}


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (None, []),
        (0.0, []),
        (0.009, []),
        (0.684, ["68% of the rows are longer than tok.max_length and were cut to it"]),
    ],
)
def test_cut_texts_are_reported(share: float | None, expected: list[str]) -> None:
    assert cut_lines(share) == expected
