"""Messages of long commands: lines with the time in a log, and a word in place of silence."""

import io
import re
import time
from collections.abc import Callable

from tune_app.console import Console
from tune_app.voice import Voice


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_of_a_log_carry_the_time_and_those_of_a_terminal_do_not() -> None:
    log, terminal = Console(file=io.StringIO()), Console(file=io.StringIO(), force_terminal=True)
    for console in (log, terminal):
        Voice(console).say("one\ntwo")
    assert re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (one|two)\n){2}", printed(log))
    assert printed(terminal) == "one\ntwo\n"


def test_silence_is_broken_by_what_is_done_and_ever_more_rarely(
    wait_for: Callable[[Callable[[], object]], None],
) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with Voice(console, silence_s=0.05) as voice:
        voice.doing("loading")
        wait_for(lambda: printed(console).count("loading") == 2)
        assert voice._gap == 0.2
        voice.doing(lambda: "at work")
        wait_for(lambda: "at work\n" in printed(console))
    output = printed(console)
    assert output.startswith("loading (0 s)\n")
    time.sleep(0.2)
    assert printed(console) == output, "nothing is said any more"


def test_many_short_tasks_make_no_long_silence(wait_for: Callable[[Callable[[], object]], None]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with Voice(console, silence_s=0.1) as voice:

        def is_told() -> bool:
            voice.doing("the next task")
            return "the next task" in printed(console)

        wait_for(is_told)


def test_a_voice_that_spoke_or_has_no_activity_stays_silent() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with Voice(console, silence_s=0.2) as voice:
        time.sleep(0.4)
        assert printed(console) == ""
        voice.heard()
        voice.doing("loading")
        for _ in range(10):
            time.sleep(0.04)
            voice.heard()
    assert printed(console) == ""


def test_quiet_is_quiet() -> None:
    console = Console(file=io.StringIO())
    with Voice(console, quiet=True, silence_s=0.05) as voice:
        voice.doing("loading")
        voice.say("one")
        time.sleep(0.2)
    assert printed(console) == ""
