"""Short form of a plan, as a search begins: its line, its question, and the seconds of its trials."""

from contextlib import ExitStack
from typing import Any

import click
import pytest

from trainables.machine import MachineFiles
from trainables.planning.ledger import Circumstances
from trainables.planning.timings import PaceLedger, Setup, Timing, Work
from tune_app.commands.terminal import agree_to_hours
from tune_app.config import RunConfig, parse_config
from tune_app.errors import UserError
from tune_app.forecast.hours import Range
from tune_app.forecast.opening import hours_line, hours_question, short_forecast, trial_seconds
from tune_app.forecast.time_forecast import TimeForecast
from tune_app.screening.preconditions import with_classes_of_data
from tune_app.screening.screen import screen_here


def config(*overrides: str) -> RunConfig:
    raw = {
        "study": {"name": "x"},
        "data": {"path": "demo", "max_rows": 300},
        "model": {"name": "tiny-bert"},
        "tok": {"max_length": 32},
        "train": {"epochs": 4},
        "search": {"trials": 6, "recommended": 0},
        "space": {"train.batch_size": {"choices": [8, 16]}, "optim.lr": {"low": 0.001, "high": 0.01}},
    }
    return with_classes_of_data(parse_config(raw, overrides))


def forecast(expected: float) -> TimeForecast:
    return TimeForecast({}, Range(expected / 2, expected, 2 * expected), Range(0, 0, 0), "ledger", (), {}, 0.0)


def record() -> None:
    setup = Setup(Circumstances.here("cpu", "fp32"), ("tiny-bert",), "criteria", "adamw", 1, 1, False, 0)
    work = Work(10, 10, 2_400, 72_000, 0.4)
    PaceLedger(MachineFiles().pace).add(Timing(setup, work, Work(1, 1, 900, 27_000, 0.02), start_s=0.5, save_s=0.1))


def test_a_search_begins_with_its_hours_once_the_machine_knows_its_models() -> None:
    one = config()
    screen = screen_here(one, lambda text: None)
    assert short_forecast(one, screen) is None
    record()
    known = short_forecast(one, screen)
    assert known is not None
    assert hours_line(known).startswith("hours: ")
    with ExitStack() as stack:
        seconds = trial_seconds(one, stack)(screen.packing)({"train.batch_size": 8, "optim.lr": 0.001})
    assert seconds is not None
    assert 4 * 0.4 < seconds < 3600 * known.hours.expected
    assert hours_line(None) == "hours: not known yet, `headroom plan` times them"


@pytest.mark.parametrize(
    ("overrides", "hours", "asks"),
    [((), 23.0, None), ((), 25.0, "more than a day"), (("search.max_hours=2",), 3.0, "search.max_hours 2")],
)
def test_a_long_search_is_asked_about(overrides: tuple[str, ...], hours: float, asks: str | None) -> None:
    question = hours_question(config(*overrides), forecast(hours))
    assert question is None if asks is None else question is not None and asks in question
    assert hours_question(config(*overrides), None) is None


def test_nobody_is_asked_without_a_terminal_or_with_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> bool:
        return False

    monkeypatch.setattr(click, "confirm", refuse)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    agree_to_hours(False, "Begin?")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    agree_to_hours(True, "Begin?")
    with pytest.raises(UserError, match=r"search\.max_hours: the search was not begun"):
        agree_to_hours(False, "Begin?")
