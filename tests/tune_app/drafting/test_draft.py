"""Drafts of whole configurations: what they say of the data, and that a search accepts them as they are."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trainables.devices.facts import TrialDevice
from tune_app.config import RunConfig, load_config
from tune_app.config.yaml_files import parse_yaml
from tune_app.drafting.draft import draft, study_name
from tune_app.drafting.machine import Machine
from tune_app.errors import UserError
from tune_app.forecast.hours import Range
from tune_app.screening.preconditions import with_classes_of_data
from tune_app.screening.screen import screen_here
from tune_app.screening.unread_parameters import check_training

LAPTOP = Machine(TrialDevice("cpu", 16.0, bf16=False), cards=0, cores=2, has_hub=False, has_offline_model=False)
QUICK, SLOW = Range(1.0, 2.0, 3.0), Range(100.0, 200.0, 300.0)
WORDS = ["sad", "tired", "calm", "happy", "alone", "awake", "hungry", "busy", "quiet", "ready"]

Rows = list[dict[str, Any]]


def sentence(number: int, words: int = 9) -> str:
    return " ".join([f"number {number}", *random.Random(number).choices(WORDS, k=words)])


def stars() -> Rows:
    return [
        {"Review": sentence(n), "stars": 1 + min(n % 8, 4), "user_id": f"u{n % 30}", "date": "2024-01-02"}
        for n in range(120)
    ]


def pairs() -> Rows:
    names = ("entailment", "neutral", "contradiction")
    return [
        {"sentence1": sentence(n), "sentence2": sentence(n + 500, 3), "gold_label": names[n % 3]} for n in range(90)
    ]


def spans(*, labels: int) -> Rows:
    """Return rows of which every other one holds evidence; with two labels they say which ones."""
    return [
        {
            "post_id": n // 3,
            "post": sentence(n),
            "criterion": WORDS[n % 3],
            "label": n % labels,
            "evidence_start": 0 if n % 2 else None,
            "evidence_end": 6 if n % 2 else None,
        }
        for n in range(90)
    ]


def write_csv(path: Path, rows: Rows, *, delimiter: str = ",", encoding: str = "utf-8") -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    content = file.getvalue().encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def drafted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, RunConfig]]:
    """Return a function that drafts a configuration of a file for a laptop; it returns the text and what it means."""
    monkeypatch.chdir(tmp_path)

    def run(
        path: str,
        machine: Machine = LAPTOP,
        hours: Range = QUICK,
        given: dict[str, str] | None = None,
        task: str | None = None,
    ) -> tuple[str, RunConfig]:
        text = draft(path, given or {}, task=task, machine=machine, planned_hours=lambda _: hours)
        return text, with_classes_of_data(load_config(parse_yaml(text)))

    return run


def comments(text: str) -> str:
    """Return the comments as one line."""
    return " ".join(
        line.strip().removeprefix("#").strip() for line in text.splitlines() if line.strip().startswith("#")
    )


def assert_searchable(config: RunConfig) -> None:
    """Run every check that a search makes before its first trial."""
    check_training(config, lambda _: None, from_here=True)
    assert screen_here(config, lambda _: None).rules


def test_a_table_of_reviews(drafted: Any) -> None:
    write_csv(Path("my reviews.csv.gz"), stars(), delimiter=";", encoding="utf-8-sig")
    text, config = drafted("my reviews.csv.gz")
    assert config.study.name == "my-reviews"
    assert (config.data.columns.text, config.data.columns.label) == ("Review", "stars")
    assert (config.data.columns.criterion, config.data.columns.group_id) == (None, "user_id")
    assert config.task.labels == ("1", "2", "3", "4", "5")
    assert config.model.name == "small-bert"
    assert config.head.pooling == "native", "every tool loads what it saves"
    assert config.space is not None
    assert "loss.class_weighting" in config.space
    said = comments(text)
    assert "120 rows in 30 groups" in said
    assert "50.0%" in said
    assert "always '5'" in said
    assert "4.0 times the rows" in said
    assert "small-bert, tiny-bert" in said
    assert "bert-base-uncased" in said
    assert "in tokens of small-bert, of every row outside the test part: 50%" in said
    assert_searchable(config)


def test_pairs_with_names_for_labels(drafted: Any) -> None:
    write_jsonl(Path("nli.jsonl"), pairs())
    text, config = drafted("nli.jsonl")
    assert (config.data.columns.text, config.data.columns.criterion) == ("sentence1", "sentence2")
    assert config.task.labels == ("contradiction", "entailment", "neutral")
    assert "loss.class_weighting" not in config.space
    assert "every row is its own group" in comments(text)


@pytest.mark.parametrize(
    ("labels", "wanted", "task"), [(2, None, "evidence"), (3, None, "joint"), (2, "share", "share")]
)
def test_evidence_makes_a_task_that_finds_it(labels: int, wanted: str | None, task: str, drafted: Any) -> None:
    pd.DataFrame(spans(labels=labels)).to_parquet("posts.parquet")
    _, config = drafted("posts.parquet", task=wanted)
    assert config.task.name == task
    assert config.data.columns.group_id == "post_id"
    assert config.tok.doc_stride < config.tok.max_length / 2
    if task == "joint":
        assert_searchable(config)


def test_texts_of_several_groups_are_named(drafted: Any) -> None:
    rows = [{"text": sentence(max(3, n)), "label": n % 2, "user": f"u{n // 3}"} for n in range(60)]
    write_csv(Path("data.tsv"), rows, delimiter="\t")
    text, config = drafted("data.tsv")
    assert config.data.columns.group_id == "user"
    assert "equal_texts: together" in text
    assert "One text stands in several groups" in comments(text)


def test_a_guessed_group_that_forbids_a_split_is_not_used(drafted: Any) -> None:
    # A class has all its rows in one group.
    rows = [
        {"text": sentence(n), "label": ["a", "b", "c"][n % 3], "author": f"u{n % 3 and n % 20}"} for n in range(120)
    ]
    write_csv(Path("data.csv"), rows)
    text, config = drafted("data.csv")
    assert config.data.columns.group_id is None
    assert "with 'author', named like one, the data cannot be split" in comments(text)
    with pytest.raises(UserError, match="class a occurs in 1 group"):
        drafted("data.csv", given={"group_id": "author"})


def test_rows_are_limited_to_what_a_night_allows(drafted: Any) -> None:
    write_csv(Path("many.csv"), [{"text": sentence(n, 3), "label": n % 2} for n in range(2500)])
    text, config = drafted("many.csv", hours=SLOW)
    assert config.search.trials == 12
    assert config.data.max_rows == 1000
    assert "More than one night" in comments(text)
    assert "As many of the 2,500 rows as 12 trials can train on in one night" in comments(text)


def card(gib: float) -> Machine:
    device = TrialDevice("cuda", gib, bf16=True, name="a card")
    return Machine(device, cards=1, cores=8, has_hub=False, has_offline_model=True)


@pytest.mark.parametrize(
    ("machine", "models"),
    [(replace(LAPTOP, has_offline_model=True), ["minilm-l6"]), (card(24.0), ["minilm-l6"]), (card(0.5), ["tiny-bert"])],
)
def test_models_suit_the_machine(machine: Machine, models: list[str], drafted: Any) -> None:
    write_csv(Path("data.csv"), stars())
    _, config = drafted("data.csv", machine)
    searched = config.space.entries.get("model.name")
    assert (list(searched.choices) if searched else [config.model.name]) == models


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([], ["holds no rows"]),
        ([*stars(), {**stars()[0], "stars": 9}], ["class 9 occurs in 1 group(s)"]),
        ([{"text": sentence(n), "label": "Yes" if n % 3 else "yes"} for n in range(60)], ["only in case"]),
        (stars()[:3], ["label"]),
    ],
    ids=["empty", "a class of one row", "names that differ in case", "three rows"],
)
def test_a_file_that_cannot_be_searched_is_refused(rows: Rows, parts: list[str], drafted: Any) -> None:
    path = Path("data.csv")
    write_csv(path, rows) if rows else path.write_text("text,label\n")
    with pytest.raises(UserError) as refused:
        drafted("data.csv")
    assert [part for part in parts if part not in str(refused.value)] == [], refused.value


def test_texts_of_the_file_cannot_leave_a_comment(drafted: Any) -> None:
    rows = [{"text": sentence(n), "label: #": f"- {'ab'[n % 2]}: 'x' #", "\x1b\n": n} for n in range(60)]
    write_csv(Path("data.csv"), rows)
    text, config = drafted("data.csv")
    assert config.data.columns.label == "label: #"
    assert config.task.labels == ("- a: 'x' #", "- b: 'x' #")
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/My data.v2.csv.gz", "My-data.v2"), ("данные.csv", "study"), ("..csv", "study"), ("x" * 99, "x" * 60)],
)
def test_the_study_is_named_after_the_file(path: str, name: str) -> None:
    assert study_name(path) == name
