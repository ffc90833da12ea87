"""Pace of models: fits to recorded times, and models that nothing was recorded of."""

from pathlib import Path

import pytest

from trainables.planning.ledger import Circumstances
from trainables.planning.timings import PaceLedger, Setup, Timing, Work
from tune_app.forecast.pace import Paces

WHERE = Circumstances("cpu", "fp32", "1", "1")


def setup(*models: str, at_once: int = 1, checkpointing: bool = False, frozen: int = 0) -> Setup:
    return Setup(WHERE, models or ("tiny-bert",), "criteria", "adamw", 1, at_once, checkpointing, frozen)


def timing(
    rows: int, passes: int, *, seconds_per_token: float = 0.001, pass_s: float = 0.05, **facts: object
) -> Timing:
    """Return the timing of one step whose passes of some rows take a known time."""
    tokens = passes * rows * 40
    work = Work(1, passes, tokens, 0.0, pass_s * passes + seconds_per_token * tokens)
    return Timing(setup(), work, Work(1, 1, tokens, 0.0, seconds_per_token * tokens / 3), **facts)  # type: ignore[arg-type]


def test_the_cost_of_a_pass_and_of_a_token_are_told_apart_by_passes_of_several_sizes() -> None:
    paces = Paces([timing(rows, passes) for rows, passes in ((4, 1), (16, 2), (64, 1), (8, 8), (32, 4), (2, 1))])
    pace = paces.pace(setup())
    assert pace is not None
    planned = Work(calls=10, passes=40, tokens=40 * 10 * 50)
    assert pace.train_s(planned, setup()) == pytest.approx(40 * 0.05 + 20_000 * 0.001, rel=0.1)
    assert pace.spread < 0.15


def test_one_size_alone_still_predicts_itself_and_larger_passes_in_proportion() -> None:
    pace = Paces([timing(16, 1), timing(16, 1)]).pace(setup())
    assert pace is not None
    assert pace.train_s(Work(1, 1, 640), setup()) == pytest.approx(0.69, rel=0.05)
    assert 0.69 < pace.train_s(Work(1, 1, 1280), setup()) < 2 * 0.69


def test_checkpointing_takes_a_third_longer_and_frozen_layers_need_no_backward_pass() -> None:
    pace = Paces([timing(16, 1, pass_s=0.0)]).pace(setup())
    assert pace is not None
    work = Work(0, 0, 1000)
    plain = pace.train_s(work, setup())
    assert pace.train_s(work, setup(checkpointing=True)) == pytest.approx(4 / 3 * plain)
    assert pace.train_s(work, setup(frozen=2)) == pytest.approx(plain / 3)


def test_a_model_without_a_record_is_scaled_by_size_and_only_under_equal_circumstances() -> None:
    paces = Paces([timing(16, 1)])
    assert not paces.knows(setup("small-bert"))
    assert paces.pace(setup("small-bert", at_once=2)) is None
    small, tiny = paces.pace(setup("small-bert")), paces.pace(setup())
    assert small is not None
    assert tiny is not None
    # Twice the layers, each with twice the width.
    assert small.train[2] == pytest.approx(8 * tiny.train[2])
    assert small.drift > tiny.drift


def test_a_record_of_searches_at_different_loads_has_a_drift_and_few_timings_are_uncertain() -> None:
    def drift(*loads: float) -> float:
        timings = [timing(rows, 1, seconds_per_token=0.001 * load) for load in loads for rows in (4, 8, 16, 32) * 2]
        pace = Paces(timings).pace(setup())
        assert pace is not None
        return pace.drift

    assert drift(1, 1, 1, 1) < 0.05
    assert 0.2 < drift(1, 2, 1, 2) < 0.5
    one, four = Paces([timing(16, 1)]).pace(setup()), Paces([timing(16, 1)] * 4).pace(setup())
    assert one is not None
    assert four is not None
    assert one.drift == pytest.approx(2 * four.drift)


def test_the_first_report_of_a_process_does_not_count_once_there_are_others() -> None:
    cold = timing(16, 1, seconds_per_token=0.1, is_warm=False)
    assert Paces([cold, timing(16, 1)]).pace(setup()) == Paces([timing(16, 1)]).pace(setup())


def test_the_record_survives_lines_that_are_cut_off_or_of_another_version(tmp_path: Path) -> None:
    file = tmp_path / "pace.jsonl"
    ledger = PaceLedger(file)
    assert list(ledger.timings()) == []
    written = [timing(4, 1, start_s=1.5), timing(8, 2, save_s=0.2, saved_bytes=10)]
    ledger.add(written[0])
    with file.open("a") as stream:
        stream.write('\n{"models": ["x"]')
    ledger.add(written[1])
    assert list(ledger.timings()) == written
