"""Choices of a draft: length, models, epochs, trials and space, from the data's figures and the machine."""

import numpy as np
import pytest

from trainables.devices.facts import TrialDevice
from trainables.task_registry import TASKS
from tune_app.drafting.effort import Effort, effort_for, epochs_for
from tune_app.drafting.machine import Machine, models_for
from tune_app.drafting.space import space_settings
from tune_app.drafting.summary import Lengths, Summary, foreign_letters, marks_evidence
from tune_app.drafting.text import Drafted, raw_config, yaml_text
from tune_app.forecast.hours import Range


def lengths(*tokens: int, rows: int | None = None) -> Lengths:
    return Lengths(np.array(tokens), "a-model", len(tokens) if rows is None else rows)


@pytest.mark.parametrize(
    ("tokens", "suggested"), [([20] * 100, 32), ([20] * 95 + [500] * 5, 32), ([20] * 94 + [100] * 6, 128), ([999], 512)]
)
def test_the_length_cuts_one_row_in_twenty_at_most(tokens: list[int], suggested: int) -> None:
    assert lengths(*tokens).suggested == suggested


def test_a_sample_of_the_rows_is_called_one() -> None:
    assert lengths(7, 9, 8, 30).lines() == [
        "Length in tokens of a-model, of every row outside the test part: 50% 9, 90% 30, 95% 30, 99% 30, longest 30."
    ]
    assert "of 2 of 5,000 rows outside the test part" in lengths(7, 9, rows=5000).lines()[0]


def test_rare_classes_and_many_classes_are_warned_of() -> None:
    few = Summary({"a": 50, "b": 9}, 30, 10, False, 0.0, lengths(9))
    assert few.warnings() == ["Warning: fewer than 10 rows of 'b': their scores say little; merge them."]
    many = Summary({f"c{n}": 10 + n for n in range(51)}, 300, 100, False, 0.0, lengths(9))
    assert many.warnings() == ["Warning: 51 classes; a label column seldom holds so many."]
    assert len(many.class_lines()) == 22
    assert many.class_lines()[-2:] == [f"c0     {10:>9}  {10 / many.rows:>6.1%}", "and 31 more classes between them"]


@pytest.mark.parametrize(
    ("labels", "starts", "expected"),
    [([0, 1, 1], [-1, 3, 0], True), ([0, 1, 1], [-1, -1, 0], False), ([0, 1, 2], [-1, 3, 3], False)],
)
def test_labels_that_only_mark_evidence(labels: list[int], starts: list[int], expected: bool) -> None:
    evidence = np.array([[start, start + 1 if start >= 0 else -1] for start in starts])
    assert marks_evidence(np.array(labels), evidence) is expected


def machine(*, card: bool = False, hub: bool = False, offline: bool = False, cores: int = 2) -> Machine:
    device = TrialDevice("cuda", 24.0, bf16=True, name="a card") if card else TrialDevice("cpu", 16.0, bf16=False)
    return Machine(device, int(card), cores, has_hub=hub, has_offline_model=offline)


@pytest.mark.parametrize(
    ("here", "foreign", "models", "says"),
    [
        (machine(card=True, hub=True), 0.0, 4, "large_models_24gb"),
        (machine(card=True, hub=True), 0.9, 1, "90% of the letters are not Latin"),
        (machine(card=True, offline=True), 0.0, 1, "The hub does not answer"),
        (machine(offline=True), 0.0, 1, "bert-base-uncased"),
        (machine(offline=True), 0.5, 1, "50% of the letters are not Latin, which it hardly knows"),
        (machine(), 0.0, 2, "The extra offline-model adds minilm-l6"),
    ],
)
def test_models(here: Machine, foreign: float, models: int, says: str) -> None:
    found, why = models_for(here, foreign)
    assert len(found) == models
    assert says in why


def test_letters() -> None:
    assert foreign_letters(["naïve café 123"]) == 0.0
    assert foreign_letters(["привет"]) == 1.0
    assert foreign_letters(["123"]) == 0.0


@pytest.mark.parametrize(("cores", "at_once", "threads"), [(1, 1, 1), (2, 2, 1), (16, 4, 4)])
def test_cores_are_shared(cores: int, at_once: int, threads: int) -> None:
    here = machine(cores=cores)
    assert (here.at_once, here.threads, here.target.budget_gib) == (at_once, threads, 16.0 / at_once)


@pytest.mark.parametrize(
    ("high", "rows", "effort"),
    [
        (9.0, 900, Effort(50, None, Range(3.0, 6.0, 9.0))),
        (25.0, 900, Effort(20, None, Range(1.2, 2.4, 10.0))),
        (500.0, 40_000, Effort(12, 3300, Range(0.0594, 0.1188, 9.9))),
        (500.0, 900, Effort(12, None, Range(0.72, 1.44, 120.0))),
    ],
)
def test_trials_fit_one_night(high: float, rows: int, effort: Effort) -> None:
    found = effort_for(Range(3.0, 6.0, high), rows)
    assert (found.trials, found.max_rows) == (effort.trials, effort.max_rows)
    assert found.hours is not None
    assert effort.hours is not None
    assert found.hours.as_dict() == pytest.approx(effort.hours.as_dict())
    assert found.on_all_rows(rows).max_rows is None


@pytest.mark.parametrize(
    ("models", "rows", "spans", "epochs"),
    [
        (["minilm-l6"], 500, False, 4),
        (["minilm-l6"], 50_000, False, 3),
        (["tiny-bert"], 500, False, 6),
        (["x"], 5, True, 6),
    ],
)
def test_epochs(models: list[str], rows: int, spans: bool, epochs: int) -> None:
    assert epochs_for(models, rows, finds_spans=spans)[0] == epochs


def space(task: str, models: list[str], rows: int, imbalance: float = 1.0) -> dict[str, dict[str, object]]:
    return {
        entry.name.removeprefix("space."): entry.value for entry in space_settings(TASKS[task], models, rows, imbalance)
    }


def test_the_space_suits_models_and_data() -> None:
    small = space("criteria", ["minilm-l6"], 50)
    assert small["train.batch_size"] == {"choices": [4, 8]}
    assert small["optim.lr"] == {"low": 1e-05, "high": 1e-04, "log": True}
    assert space("criteria", ["tiny-bert"], 50)["optim.lr"] == {"low": 5e-05, "high": 2e-3, "log": True}
    assert space("criteria", ["tiny-bert"], 9_999)["train.batch_size"] == {"choices": [16, 32, 64, 128]}
    assert not {"loss.class_weighting", "model.name", "task.criteria_weight"} & set(small)
    assert {"loss.class_weighting", "model.name"} < set(space("criteria", ["tiny-bert", "small-bert"], 50, 3.0))
    assert not {"head.pooling", "head.dropout"} & (set(small) | set(space("evidence", ["tiny-bert"], 50)))
    assert space("share", ["tiny-bert"], 50)["head.pooling"] == {"choices": ["cls", "mean"]}
    assert {"head.pooling", "task.criteria_weight"} < set(space("joint", ["tiny-bert"], 50))


def test_yaml_holds_each_setting_under_its_reason() -> None:
    settings = [
        Drafted("data.path", "a: b.csv", "One\nfile."),
        Drafted("data.columns.text", "no", "A # sign."),
        Drafted("data.max_rows", 7),
        Drafted("space.optim.lr", {"choices": [0.1]}, "Rate."),
    ]
    assert yaml_text(["head\x07", ""], settings) == (
        "# head\\x07\n#\n\ndata:\n  # One file.\n  path: 'a: b.csv'\n  columns:\n    # A # sign.\n    text: no\n"
        "  max_rows: 7\n\nspace:\n  # Rate.\n  optim.lr: {choices: [0.1]}\n"
    )
    assert raw_config(settings) == {
        "data": {"path": "a: b.csv", "columns": {"text": "no"}, "max_rows": 7},
        "space": {"optim.lr": {"choices": [0.1]}},
    }
