"""The page of a report: every state of a study, texts of users, size, files and the command."""

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tune_app
from tune_app.errors import UserError
from tune_app.outcomes import Outcome
from tune_app.report.page import write_report
from tune_app.study.store import search_lock

Write = Callable[..., Any]

ONE = {"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}}


def add_nothing(study: Any) -> None:
    pass


def add_without_a_value(study: Any) -> None:
    study.add(Outcome.INFEASIBLE, {"optim.lr": 1e-3})
    study.add(Outcome.FAILED, {"optim.lr": 1e-3}, attributes={"error_type": "OSError", "error_message": "disk"})


def add_one(study: Any) -> None:
    study.add(Outcome.COMPLETE, {"optim.lr": 1e-3}, (0.7,), steps={1: 0.7})


def add_open(study: Any) -> None:
    study.add(None, {"optim.lr": 1e-3}, steps={1: 0.7})


def add_equal(study: Any) -> None:
    for number in range(10):
        study.add(Outcome.COMPLETE, {"optim.lr": 1e-3 + 1e-4 * number}, (0.7,), attributes={"recommended": number == 9})


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (add_nothing, ["No trial is complete yet", "No trial has been launched yet", "No trial yet."]),
        (add_without_a_value, ["No trial is complete yet", "disk", "No trial has a value yet", "OSError"]),
        (add_one, ["Trial 0 has the best value so far", "One trial has a value, so there is nothing"]),
        (add_open, ["No trial is complete yet", "interrupted"]),
        (add_equal, ["One setting differs, so there is nothing to compare"]),
    ],
)
def test_a_report_says_what_a_study_does_not_hold_yet(write_study: Write, fill: Any, says: list[str]) -> None:
    study = write_study(ONE)
    fill(study)
    text = study.html()
    assert [words for words in says if words not in text] == []


def test_a_report_of_a_running_search_says_so(write_study: Write) -> None:
    study = write_study(ONE, on_disk=True)
    add_one(study)
    add_open(study)
    assert "still running" not in study.html()
    with search_lock(study.run_dir):
        text = study.html()
    assert "still running" in text
    assert '<tr data-outcome="running">' in text


class Scripts(HTMLParser):
    """Reader of a page that notes its scripts and the addresses it would load from."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.loads += [str(value) for name, value in attrs if name in ("src", "srcset", "action", "data")]
        self.loads += [str(value) for name, value in attrs if name == "href" and not str(value).startswith("#")]


BAD = "<script>alert(1)</script><img src=x onerror=alert(1)> &amp; \u202e\x1b[31m \ud800"


def test_texts_of_users_are_shown_and_not_obeyed(write_study: Write) -> None:
    study = write_study({"head.pooling": {"choices": ["cls", "mean"]}, **ONE})
    measured = {
        "confusion": {BAD: {BAD: 3.0}, "b": {BAD: 1.0}},
        "by_criterion": {BAD: {"rows": 3.0, "macro_f1": 0.5}},
        "by_span_length": {BAD: {"rows": 3.0, "exact_match": 0.5, "token_f1": 0.5}},
    }
    for number in range(8):
        sample = {"optim.lr": 1e-3 * (number + 1), "head.pooling": "cls" if number % 2 else "mean"}
        study.add(Outcome.COMPLETE, sample, (0.1 * number,), attributes=measured)
    error = {"error_type": BAD, "error_message": BAD, "error_traceback": BAD}
    study.add(Outcome.FAILED, {"optim.lr": 1e-3, "head.pooling": "cls"}, attributes=error, reason=BAD)
    study.store.set_baselines({BAD: 0.2})
    text = study.html()
    page = Scripts()
    page.feed(text)
    # The data, plotly and the page's own script.
    assert (page.scripts, page.loads) == (3, [])
    text.encode()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("<script>alert(1)") == 0
    assert "&lt;script&gt;alert(1)" in text


def test_a_report_of_200_trials_has_at_most_6_mb(written_search: Write) -> None:
    text = written_search(200).html()
    assert len(text.encode()) <= 6e6
    assert len(re.findall("<tr data-outcome", text)) == 200


@pytest.mark.slow
def test_a_report_of_2000_trials_takes_at_most_20_s_and_10_mb(written_search: Write) -> None:
    study = written_search(2000)
    # The processor's time, since other tests run at the same time.
    began = time.process_time()
    text = study.html()
    assert time.process_time() - began < 20
    assert len(text.encode()) <= 10e6


def test_a_report_is_written_where_it_is_wanted(write_study: Write, tmp_path: Path) -> None:
    study = write_study(ONE, on_disk=True)
    add_one(study)
    loaded = tune_app.load_study(study.run_dir)
    assert loaded.report() == study.run_dir / "report.html"
    wanted = tmp_path / "new" / "page.html"
    assert loaded.report(str(wanted)) == wanted
    assert wanted.read_text().startswith("<!doctype html>")


def test_the_command_names_its_file_and_refuses_a_folder(
    write_study: Write, headroom: Callable[..., Any], tmp_path: Path
) -> None:
    study = write_study(ONE, on_disk=True)
    ran = headroom("report", str(study.run_dir), "--to", "out.html")
    assert (ran.code, ran.out.splitlines()) == (0, ["study written", "report  out.html"])
    assert (tmp_path / "out.html").exists()
    for arguments in ((str(study.run_dir), "--to", str(tmp_path)), ("missing",)):
        ran = headroom("report", *arguments)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)


def test_a_file_that_cannot_be_written_leaves_nothing(write_study: Write, tmp_path: Path) -> None:
    study = write_study(ONE)
    (tmp_path / "file").write_text("a file in the place of a folder")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(study.store, study.config, study.run_dir, tmp_path / "file" / "report.html")
    assert (tmp_path / "file").read_text() == "a file in the place of a folder"
