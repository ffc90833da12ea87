"""Text from outside: nothing parses it as markup and no terminal obeys it, whatever prints it."""

import ast
import csv
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from search_spaces.space import parse_space
from tune_app.config import load_config
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.outcomes import Outcome
from tune_app.printable import PrintableFormatter, printable
from tune_app.progress.live import Live
from tune_app.progress.live_table import LiveTable
from tune_app.progress.plain import PlainLines
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course
from tune_app.study.run_dir import write_config
from tune_app.study.store import StudyStore, open_study
from tune_app.study.times import Doing, TrialClock
from tune_app.voice import Voice

PRINTERS = ("print", "click.echo", "click.secho", "traceback.print_exc", "sys.stdout.write", "sys.stderr.write")
PACKAGE = Path(__file__).parents[2] / "tune_app"

NASTY = "[/red][bold]\x1b[31m:boom:"
FOLDER = "[red][bold]"
SHOWN = "[/red][bold]\\x1b[31m:boom:"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain × 1 → “ok”", "plain × 1 → “ok”"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("narrow\u00a0and\u3000wide blanks", "narrow\u00a0and\u3000wide blanks"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("back\b\r\x9b31m", "back\\x08\\r\\x9b31m"),
        ("right to left \u202e, unpaired \udce9", "right to left \\u202e, unpaired \\udce9"),
        ("", ""),
    ],
)
def test_only_what_steers_a_terminal_becomes_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_a_console_shows_texts_and_tables_as_they_are_and_keeps_its_own_styles() -> None:
    output = io.StringIO()
    console = Console(file=output, width=100, force_terminal=True, color_system="standard")
    table = Table(NASTY, title=NASTY)
    table.add_row(NASTY, style="green")
    table.add_row(Text(NASTY))
    console.say(NASTY)
    console.print(table)
    shown = output.getvalue()
    assert shown.count(SHOWN) == 5
    assert "\x1b[31m" not in shown
    assert "\x1b[32m" in shown


def test_a_log_line_and_an_error_show_what_they_quote_as_it_is() -> None:
    record = logging.LogRecord("headroom", logging.INFO, "", 0, "%s ended", (NASTY,), None)
    assert PrintableFormatter("%(message)s").format(record) == f"{SHOWN} ended"
    assert str(UserError(f"{NASTY}\nhere")) == f"{SHOWN} here"


def test_nothing_prints_past_the_console_and_echo() -> None:
    found = {
        (str(file.relative_to(PACKAGE)), what)
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for what in printing(node)
    }
    # The live table uses rich's console only as a type.
    assert found == {
        ("commands/terminal.py", "click.echo"),
        ("console.py", "rich.console"),
        ("progress/live_table.py", "rich.console"),
    }


def printing(node: ast.AST) -> Iterator[str]:
    """Yield the names of code that can print unseen: calls past the helpers, and rich's own console and markup."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name in (
            "print",
            "click.echo",
            "click.secho",
            "traceback.print_exc",
            "sys.stdout.write",
            "sys.stderr.write",
        ):
            yield name
    if isinstance(node, ast.ImportFrom) and node.module in ("rich", "rich.console", "rich.markup"):
        yield from ("rich.console" for alias in node.names if alias.name in ("console", "Console", "print"))
        yield from ("rich.markup" for _ in node.names if node.module == "rich.markup")


@pytest.fixture
def study(mine_yaml: str, tmp_path: Path) -> tuple[Path, StudyStore]:
    """Write a study in a folder with a nasty name; one of its values and some messages are nasty too."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    file = folder / "c.yaml"
    file.write_text(mine_yaml)
    config = load_config(file, [f"study.dir={json.dumps(str(folder / 'runs'))}"])
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    write_config(config, run_dir)
    space = parse_space({"optim.lr": {"choices": [0.1, 0.2]}, "model.name": {"choices": [NASTY, "tiny-bert"]}})
    record = StudyRecord(space, "criteria", "macro_f1", "max", "f" * 64, {"data.path": NASTY})
    store = open_study(run_dir, config.study.name, None, record)
    store.set_target(5)
    sample = {"optim.lr": 0.1, "model.name": NASTY}
    for outcome in (Outcome.FAILED, Outcome.OOM, Outcome.INFEASIBLE):
        store.close_trial(store.open_trial(sample, {}), outcome, reason=NASTY)
    for value, complete in ((0.4, sample), (0.5, {**sample, "model.name": "tiny-bert"})):
        store.close_trial(store.open_trial(complete, {}), Outcome.COMPLETE, value=value, attributes={"best_epoch": 1})
    return run_dir, store


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status", "mine"), 0),
        (("study", "show", "mine"), 0),
        (("study", "list"), 0),
        (("export", "mine", "--to", FOLDER), 0),
        (("study", "diff", "mine", "c.yaml"), 1),
        (("study", "fork", "mine", "c.yaml", "-s", f"study.dir={json.dumps(FOLDER)}"), 0),
        (("study", "archive", "mine"), 0),
        (("study", "delete", "mine", "--yes"), 0),
        (("status", NASTY), 2),
        (("export", "mine", "--to", "out", NASTY), 2),
        (("search", "c.yaml", "-s", f"model.name={json.dumps(NASTY)}"), 2),
        (("memory", "c.yaml", "-s", f"data.{NASTY}=1"), 2),
        (("train", NASTY), 2),
    ],
    ids=lambda value: value[:2][-1].replace(NASTY, "nasty") if isinstance(value, tuple) else None,
)
def test_commands_show_names_values_and_messages_as_they_are(
    arguments: tuple[str, ...],
    code: int,
    study: tuple[Path, StudyStore],
    headroom: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(study[0].parents[1])
    ran = headroom(*arguments)
    assert ran.code == code, ran.err
    assert "\x1b" not in ran.out + ran.err
    assert "[bold]" in ran.out + ran.err or arguments[1] in ("list", "delete")


def test_tables_for_people_and_programs_hold_no_escape_sequence(
    study: tuple[Path, StudyStore], headroom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study[0].parents[1])
    assert headroom("export", "mine", "--to", "out").code == 0
    with Path("out/leaderboard.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["model.name"] for row in rows} == {SHOWN, "tiny-bert"}
    assert {row["reason"] for row in rows} == {SHOWN, ""}
    assert not [file for file in Path("out").iterdir() if "\x1b" in file.read_text(encoding="utf-8")]
    for command in (
        ["status", "mine", "--json"],
        ["study", "show", "mine", "--json"],
        ["study", "list", "--json"],
    ):
        printed = headroom(*command).out
        assert "\x1b" not in printed
        json.loads(printed)


@pytest.mark.parametrize("shown_by", [PlainLines, LiveTable])
def test_a_running_search_shows_values_and_messages_as_they_are(
    shown_by: type[PlainLines | LiveTable], study: tuple[Path, StudyStore]
) -> None:
    _, store = study
    output = io.StringIO()
    console = Console(file=output, width=200, force_terminal=shown_by is LiveTable, no_color=True)
    trial = store.trial(store.open_trial({"optim.lr": 0.1, "model.name": NASTY}, {}))
    live = Live(trial.number, trial.params, store.record.step_scale, TrialClock(Doing.WAITING, 0.0))
    with shown_by(Voice(console), store, Course(steps=1)) as progress:
        progress.message(NASTY)
        progress.reported(live, 0.5)
        progress.retried(live, NASTY)
        progress.closed(store.trial(0))
        progress.step([live])
    shown = output.getvalue()
    assert "\x1b[31m" not in shown
    assert shown.count(SHOWN) >= 4
