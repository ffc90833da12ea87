"""Facts of a report, each computed from a study that was written for it."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from search_spaces.space import parse_space
from tune_app.objectives import Objective
from tune_app.outcomes import Outcome
from tune_app.report.trust import edges_of
from tune_app.study.confirmation import Confirmation, ConfirmedCandidate, TestFigure, TestPart
from tune_app.study.reporting import StudyStatus
from tune_app.study.store import StudyTime

Write = Callable[..., Any]

ONE = {"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
TWO = {**ONE, "head.pooling": {"choices": ["cls", "mean"]}}


def params(lr: float, pooling: str = "cls") -> dict[str, Any]:
    return {"optim.lr": lr, "head.pooling": pooling}


def with_rise(study: Any, trials: int = 24) -> Any:
    """Add trials whose value depends on the pooling alone; the first two are recommended."""
    for number in range(trials):
        pooling = "mean" if number % 2 and number > 1 else "cls"
        value = (0.8 if pooling == "mean" else 0.6) + 0.001 * (number % 5)
        study.add(
            Outcome.COMPLETE,
            params(1e-4 * 10 ** (2 * (number + 1) / (trials + 1)), pooling),
            (value,),
            attributes={"recommended": number < 2},
        )
    return study


def confirmation(winner: int | None, recommended_mean: float = 0.6) -> Confirmation:
    """Return the confirmation of one leader and the recommended configuration of trial 0."""
    values = [0.87, 0.89]
    leader = ConfirmedCandidate(
        winner, "leader", params(1e-3, "mean"), 0.9, "winner", values, values, 0.88, (0.86, 0.9), 0.8
    )
    recommended = ConfirmedCandidate(
        0, "recommended", params(1e-3), 0.6, "beaten", values, values, recommended_mean, None, 0.2
    )
    return Confirmation(
        study="written",
        metric="macro_f1",
        seeds=2,
        folds=None,
        winner=winner,
        winner_params=leader.params,
        ties=[],
        candidates=[leader, recommended],
        expected_value=0.875,
        expected_interval=(0.85, 0.895),
        is_clear=True,
        data_fingerprint="data",
        test=TestPart(winner, 0.85, (0.83, 0.87), 2, 0.44, "2026-01-31", TestFigure(0, 0.7, (0.65, 0.75), 2)),
        remarks=["one training failed"],
    )


def test_the_best_trial_is_the_choice_until_a_confirmation_names_another(write_study: Write) -> None:
    study = with_rise(write_study(TWO))
    choice = study.sections().choice
    best, *_ = study.source().ranked
    assert (choice.trial, choice.confirmation) == (best.number, None)
    assert "head:\n  pooling: mean" in choice.short
    assert f"trial: {best.number}" in choice.whole
    assert [setting.name for setting in choice.settings if setting.differs] == ["optim.lr", "head.pooling"]
    confirmation(5).write(study.run_dir)
    choice = study.sections().choice
    assert (choice.trial, choice.remarks) == (5, ("one training failed",))
    assert [(estimate.kind, estimate.value, estimate.interval) for estimate in choice.estimates] == [
        ("baseline", 0.41, None),
        ("recommended", pytest.approx(0.601), None),
        ("search", study.store.trial(5).value, None),
        ("recommended", 0.6, None),
        ("confirmed", 0.88, (0.86, 0.9)),
        ("confirmed", 0.875, (0.85, 0.895)),
        ("recommended", 0.7, (0.65, 0.75)),
        ("test", 0.85, (0.83, 0.87)),
    ]


def test_a_confirmed_winner_is_good_if_its_interval_lies_above_the_recommended_one(write_study: Write) -> None:
    question = "Does it hold on fresh seeds?"
    study = with_rise(write_study(TWO))
    assert verdicts(study)[question][0] == "open"
    confirmation(5).write(study.run_dir)
    verdict, answer = verdicts(study)[question]
    assert verdict == "good"
    assert "2 fresh seeds: 0.8800 on average" in answer
    assert "expect 0.8750 on new data" in answer
    assert "★ winner" in study.html()
    confirmation(5, recommended_mean=0.87).write(study.run_dir)
    assert verdicts(study)[question][0] == "care"


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        ("{", "cannot be read"),
        (json.dumps(confirmation(99).as_dict()), "names trial 99, which is not complete here"),
    ],
)
def test_a_confirmation_that_cannot_be_used_is_a_remark(write_study: Write, content: str, remark: str) -> None:
    study = with_rise(write_study(TWO))
    (study.run_dir / "confirm.json").write_text(content)
    choice = study.sections().choice
    assert choice.trial == study.source().ranked[0].number
    assert remark in choice.remarks[0]


def test_a_recommended_configuration_that_the_search_never_completed_can_win(write_study: Write) -> None:
    study = with_rise(write_study(TWO))
    confirmation(None).write(study.run_dir)
    choice = study.sections().choice
    assert (choice.trial, choice.search_value, choice.whole) == (None, None, "")
    assert "pooling: mean" in choice.short
    assert "A recommended configuration that the search never completed won" in study.html()


def verdicts(study: Any) -> dict[str, tuple[str, str]]:
    return {check.question: (check.verdict, check.answer) for check in study.sections().trust.checks}


def test_a_lead_is_compared_with_the_noise_of_the_metric(write_study: Write) -> None:
    question = "Is the lead larger than the noise?"
    study = write_study(ONE)
    for value, recommended in ((0.80, True), (0.81, False)):
        study.add(Outcome.COMPLETE, {"optim.lr": 1e-3}, (value,), attributes={"recommended": recommended})
    verdict, answer = verdicts(study)[question]
    assert verdict == "care"
    assert "leads the recommended configuration by 0.0100, less than twice that" in answer
    assert "1 other complete trial lies within one standard error" in answer
    study.add(Outcome.COMPLETE, {"optim.lr": 2e-3}, (0.9,))
    assert verdicts(study)[question][0] == "good"


def test_a_study_of_an_earlier_version_does_not_know_its_noise(write_study: Write) -> None:
    study = with_rise(write_study(TWO))
    study.store.study.set_user_attr("standard_error", None)
    assert verdicts(study)["Is the lead larger than the noise?"][0] == "open"
    assert study.sections().trust.noise is None


@pytest.mark.parametrize(
    ("values", "verdict", "answer"),
    [
        ([0.9] + 19 * [0.5, 0.51], "good", "Hardly: 39 more trials are expected to raise the best value by 0.0000"),
        (10 * [0.5, 0.9], "care", "Perhaps: 20 more trials are expected to raise the best value by more than"),
        ([0.5, 0.6], "open", "Too early to say: 2 trials have reported, of 15 at least."),
    ],
)
def test_more_trials_help_where_they_are_expected_to_gain_more_than_the_noise(
    write_study: Write, values: list[float], verdict: str, answer: str
) -> None:
    study = write_study(ONE)
    for value in values:
        study.add(Outcome.COMPLETE, {"optim.lr": 1e-3}, (value,), steps={4: value})
    found, text = verdicts(study)["Would more trials help?"]
    assert (found, text[: len(answer)]) == (verdict, answer)


@pytest.mark.parametrize(
    ("name", "entry", "value", "side"),
    [
        ("optim.lr", {"low": 1e-5, "high": 1e-1, "log": True}, 0.09, "upper"),
        ("optim.lr", {"low": 1e-5, "high": 1e-1, "log": True}, 0.05, None),
        ("optim.lr", {"low": 1e-5, "high": 1e-1, "log": True}, 1.2e-5, "lower"),
        ("optim.weight_decay", {"low": 0.0, "high": 0.5}, 0.0, None),
        ("train.epochs", {"low": 1, "high": 4}, 4, "upper"),
        ("train.epochs", {"low": 1, "high": 4}, 1, None),
        ("train.batch_size", {"choices": [32, 8, 16]}, 8, "lower"),
        ("train.batch_size", {"choices": [8, 16]}, 8, None),
        ("model.name", {"choices": ["a", "b", "c"]}, "a", None),
        ("augment.rows", {"choices": [True, False]}, True, None),
    ],
)
def test_an_edge_is_an_end_that_could_be_moved(name: str, entry: dict[str, Any], value: Any, side: str | None) -> None:
    space = parse_space({name: entry})
    assert [edge.side for edge in edges_of({name: value}, space.entries)] == ([side] if side else [])


def test_the_setting_that_the_value_depends_on_matters_and_leads_the_path(write_study: Write) -> None:
    found = with_rise(write_study(TWO)).sections().influence
    assert found.names[0] == "head.pooling"
    assert found.importance["head.pooling"] > 0.6
    assert sum(found.importance.values()) == pytest.approx(1)
    assert found.path is not None
    first = found.path.steps[0]
    assert (first.name, first.before, first.after) == ("head.pooling", "cls", "mean")
    assert first.gain > 0.1
    assert found.path.explained > 0.8
    assert found.path.steps[-1].value == pytest.approx(0.8, abs=0.03)


def test_stopped_trials_teach_the_path_by_the_steps_that_they_finished(write_study: Write) -> None:
    study = with_rise(write_study(TWO), 12)
    for number in range(12):
        study.add(Outcome.STOPPED, params(1e-3 + 1e-4 * number, "mean"), steps={1: 0.3})
    found = study.sections().influence
    assert found.path.trials == found.trials == 24
    # Their low values belong to one step of four, not to the pooling that they share.
    assert found.path.steps[-1].value > 0.7


def test_there_is_no_path_between_equal_configurations(write_study: Write) -> None:
    study = with_rise(write_study(TWO))
    study.add(Outcome.COMPLETE, study.store.trial(study.sections().choice.recommended).params, (0.95,))
    found = study.sections().influence
    assert (found.path, found.no_path) == (None, "The winner has the settings of the recommended configuration.")
    assert found.no_path in study.html()


def test_hours_add_up_by_outcome_and_phase(write_study: Write) -> None:
    study = write_study(ONE)
    seconds = {"working_s": 3600.0, "waiting_s": 1800.0, "load_s": 360.0, "train_s": 1800.0, "eval_s": 360.0}
    for outcome, share in ((Outcome.STOPPED, 0.5), (Outcome.STOPPED, 0.25), (Outcome.OOM, 1.0)):
        study.add(outcome, {"optim.lr": 1e-3}, attributes={**seconds, "gpu_fraction": share}, reason="why")
    study.add(Outcome.INFEASIBLE, {"optim.lr": 1e-3})
    hours = study.sections().hours
    assert (hours.unit, hours.total) == ("GPU-hours", pytest.approx(1.75))
    stopped, oom = hours.by_outcome
    assert (stopped.outcome, stopped.trials, stopped.worked, stopped.waited) == ("stopped", 2, pytest.approx(0.75), 1.0)
    assert stopped.phases["training"] == pytest.approx(0.375)
    assert stopped.phases["starting and saving"] == pytest.approx(0.225)
    assert oom.worked == pytest.approx(1)
    assert "Planned were" not in study.html()
    planned = {"low": 0.9, "expected": 1.2, "high": 1.7, "basis": "timed steps", "trials": 12}
    study.store.set_time(StudyTime(planned, taken_s=4500.0))
    assert "Planned were 1 h 12 min (54 min 0 s to 1 h 42 min) for 12 trials, by timed steps" in study.html()


def test_memory_is_compared_and_counted_by_model_length_and_batch(write_study: Write) -> None:
    space = {"train.batch_size": {"choices": [8, 16]}, "model.name": {"choices": ["tiny-bert", "small-bert"]}}
    study = write_study(space)
    small, large = ({"train.batch_size": batch, "model.name": "tiny-bert"} for batch in (8, 16))
    facts = {"predicted_gib": 1.0, "peak_gib": 1.1, "budget_gib": 2.0, "effective_batch": 8}
    study.add(Outcome.COMPLETE, small, (0.5,), steps={1: 0.5}, attributes={**facts, "recoveries": 1})
    study.add(Outcome.STOPPED, small, steps={1: 0.5}, attributes={**facts, "peak_gib": 0.99})
    study.add(Outcome.OOM, large, attributes={**facts, "effective_batch": 16, "peak_gib": None}, reason="why")
    study.add(Outcome.INFEASIBLE, large | {"model.name": "small-bert"})
    memory = study.sections().memory
    assert memory.error == pytest.approx((0.1 / 1.1 + 0.01 / 0.99) / 2)
    assert memory.allowed_gib == pytest.approx((1.8,))
    assert memory.worst.number == 0
    assert memory.batches == (8, 16)
    rejected, ran = memory.rows
    assert (rejected.model, rejected.cells[0], rejected.cells[1].rejected) == ("small-bert", None, 1)
    assert (ran.cells[0].ran, ran.cells[0].recovered, ran.cells[1].oom, ran.cells[1].ran) == (2, 1, 1, 0)


def test_errors_that_differ_in_numbers_alone_are_one_group(write_study: Write) -> None:
    study = write_study(ONE)
    for message in ("row 3 of 10 is bad", "row 12 of 10 is bad", "no such file"):
        error = {"error_type": "ValueError", "error_message": message, "error_traceback": f"Traceback: {message}"}
        study.add(Outcome.FAILED, {"optim.lr": 1e-3}, attributes=error, reason=f"ValueError: {message}")
    study.add(None, {"optim.lr": 1e-3})
    study.store.set_attributes(3, {"retries": 1, "retry_1": "WorkerLost: gone"})
    problems = study.sections().problems
    assert [(group.example, group.trials) for group in problems.errors] == [
        ("row 3 of 10 is bad", (0, 1)),
        ("no such file", (2,)),
    ]
    assert problems.errors[0].traceback == "Traceback: row 3 of 10 is bad"
    assert [(group.example, group.trials) for group in problems.retried] == [("WorkerLost: gone", (3,))]


def test_scores_by_class_come_from_the_confusion_matrix(write_study: Write) -> None:
    study = write_study(ONE)
    measured = {
        "confusion": {"no": {"no": 6.0, "yes": 2.0}, "yes": {"no": 1.0, "yes": 3.0}, "never": {}},
        "by_criterion": {"a": {"rows": 4.0, "macro_f1": 0.9}, "b": {"rows": 8.0, "macro_f1": 0.5}},
        "by_span_length": {"1–2": {"rows": 3.0, "exact_match": 0.5, "token_f1": 0.6}},
    }
    study.add(Outcome.COMPLETE, {"optim.lr": 1e-3}, (0.9,), attributes=measured)
    found = study.sections().mistakes
    assert found.confusion == ((6.0, 2.0, 0.0), (1.0, 3.0, 0.0), (0.0, 0.0, 0.0))
    no, yes, never = found.by_class
    assert (no.rows, no.precision, no.recall, no.f1) == (8, pytest.approx(6 / 7), 0.75, pytest.approx(0.8))
    assert (yes.precision, yes.recall) == (0.6, 0.75)
    assert (never.precision, never.recall, never.f1) == (None, None, 0.0)
    assert [name for name, _ in found.by_criterion] == ["b", "a"], "the worst first"


def test_an_old_study_says_why_it_has_no_scores_by_class(write_study: Write) -> None:
    study = with_rise(write_study(TWO))
    assert "stores no scores by class, criterion or length" in study.sections().mistakes.absent


def test_the_front_of_several_objectives_is_shown(write_study: Write) -> None:
    study = write_study(TWO, (Objective("peak_gib", "min"),))
    for value, gib in ((0.9, 3.0), (0.8, 1.0), (0.7, 2.0)):
        study.add(Outcome.COMPLETE, params(1e-3), (value, gib))
    sections = study.sections()
    assert [(point.number, point.values) for point in sections.choice.front] == [
        (0, ("0.9000", "3")),
        (1, ("0.8000", "1")),
    ]
    assert math.isclose(sections.trust.best_so_far[-1][1], 0.9)
    assert 'id="front-1"' in study.html()


def test_the_table_has_every_trial_and_no_empty_column(written_search: Write) -> None:
    study = written_search(30)
    table = study.sections().listing
    status: StudyStatus = study.source().status
    assert len(table.rows) == len(study.source().trials) == status.launched + status.trials["infeasible"]
    assert all(any(column) for column in zip(*table.rows, strict=True))
    is_numeric = dict(zip(table.columns, table.numeric, strict=True))
    assert is_numeric["macro_f1"]
    assert not is_numeric["outcome"]
