"""Page of ``headroom status --watch``."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.rules import Violation
from search_spaces.space import parse_space
from trainables.devices import facts
from trainables.devices.facts import NvmlFacts, NvmlGpu
from tune_app.console import Console
from tune_app.outcomes import FACTS_ATTRIBUTE, WAITS_ATTRIBUTE, Outcome
from tune_app.progress.watch_page import GpuMeter, watch_page
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course
from tune_app.study.reporting import study_status
from tune_app.study.store import StudyStore, open_study
from tune_app.study.times import CLOCK_ATTRIBUTE, Doing, TrialClock

SPACE = parse_space({"optim.lr": {"choices": [0.1, 0.2, 0.3, 0.4]}})


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    return open_study(tmp_path, "test", None, StudyRecord(SPACE, "criteria", "macro_f1", "max", "f" * 64))


@pytest.fixture
def page(store: StudyStore) -> Callable[..., str]:
    def printed(*, is_running: bool = True, gpus: GpuMeter | None = None, width: int = 160) -> str:
        output = io.StringIO()
        status = study_status(store, is_running=is_running)
        shown = watch_page(
            store, status, Course(3, slots=2), is_running=is_running, version="", gpus=gpus or GpuMeter()
        )
        Console(file=output, width=width).print(shown)
        return output.getvalue()

    return printed


def clock(doing: Doing, *, working: float = 0.0, waiting: float = 0.0) -> dict[str, object]:
    seconds = {Doing.WORKING: working, Doing.WAITING: waiting, Doing.PAUSED: 0.0}
    return {CLOCK_ATTRIBUTE: TrialClock(doing, time.time(), seconds).as_dict()}


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_study_without_trials_has_a_page(page: Callable[..., str]) -> None:
    assert page(is_running=False).splitlines() == [
        "study test (not running)",
        "0 of 0 launched",
        "no trial is complete",
    ]


def test_a_trial_at_work_shows_its_memory_batch_rate_and_times(store: StudyStore, page: Callable[..., str]) -> None:
    measured = {
        "peak_gib": 5.125,
        "budget_gib": 9.0,
        "micro_batch": 8,
        "accumulation_steps": 4,
        "tokens_per_s": 1234.0,
    }
    number = store.open_trial({"optim.lr": 0.1}, {FACTS_ATTRIBUTE: measured})
    store.set_attributes(number, clock(Doing.WORKING, working=65, waiting=5))
    store.report(number, 1, 0.5)
    cells = [cell.strip() for cell in line_of(page(), "0 ").split("  ") if cell.strip()]
    assert cells == ["0", "at work", "1 of 1", "0.5000", "5.12 of 9.00", "8 × 4", "1,234", "1 min 5 s", "5 s", "lr=0.1"]


def test_waiting_is_told_from_working(store: StudyStore, page: Callable[..., str]) -> None:
    at_rung = store.open_trial({"optim.lr": 0.1}, {WAITS_ATTRIBUTE: 1, **clock(Doing.WAITING)})
    store.report(at_rung, 1, 0.5)
    store.open_trial({"optim.lr": 0.2}, clock(Doing.WAITING))
    assert "waits at a rung" in line_of(page(), "0 ")
    assert "waits for a worker" in line_of(page(), "1 ")


def test_rejections_are_counted_by_rule_and_errors_by_reason(store: StudyStore, page: Callable[..., str]) -> None:
    store.record_infeasible({"optim.lr": 0.1}, [Violation("memory", "too large", 0.5)])
    store.record_infeasible({"optim.lr": 0.2}, [Violation("memory", "too large", 0.25)])
    for rate in (0.3, 0.4):
        number = store.open_trial({"optim.lr": rate}, {})
        store.close_trial(number, Outcome.FAILED, reason="ValueError: no such column")
    text = page()
    assert line_of(text, "rejected") == "rejected: 2 by memory"
    assert line_of(text, "failed") == "failed: 2 × ValueError: no such column (last: trial 3)"


def test_a_narrow_terminal_shortens_the_configuration_alone(store: StudyStore, page: Callable[..., str]) -> None:
    store.open_trial({"optim.lr": 0.1}, clock(Doing.WORKING, working=1))
    store.open_trial({"optim.lr": 0.2}, clock(Doing.WORKING, working=1))
    lines = page(width=92).splitlines()
    assert max(map(len, lines)) <= 92
    assert "macro_f1  peak GiB  batch  tokens/s  worked  waited  conf" in line_of("\n".join(lines), "trial")


def test_gpus_are_averaged_since_the_page_opened(
    store: StudyStore, page: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([40, 80])
    monkeypatch.setattr(facts, "nvml_facts", lambda: NvmlFacts("1", (NvmlGpu("L4", 22.0, 11.0, next(readings)),)))
    meter = GpuMeter()
    meter.read()
    meter.read()
    assert "GPU 0 (L4): 80 % busy, 60 % since this page opened; 11.0 of 22.0 GiB in use" in page(gpus=meter)
