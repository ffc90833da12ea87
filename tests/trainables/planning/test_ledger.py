"""The machine's ledger: whole lines from many writers, and a correction that prefers too much to too little."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainables.planning.ledger import Circumstances, Ledger

HERE = Circumstances("cpu", "fp32", "2.13", "5.23")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "machine" / "ledger.jsonl"


@pytest.fixture
def ledger(file: Path) -> Ledger:
    return Ledger(file)


def add(ledger: Ledger, *ratios: float, where: Circumstances = HERE) -> None:
    for ratio in ratios:
        ledger.add(where, predicted_gib=2.0, measured_gib=2.0 * ratio)


def test_nothing_is_corrected_that_nothing_is_known_of(ledger: Ledger, file: Path) -> None:
    assert ledger.correction(HERE) == 1.0
    assert not file.exists()


def test_peaks_above_their_predictions_raise_later_predictions(ledger: Ledger) -> None:
    add(ledger, 1.0, 1.12, 1.05)
    assert ledger.correction(HERE) == 1.12


def test_peaks_below_their_predictions_lower_none(ledger: Ledger) -> None:
    add(ledger, 0.5, 0.9)
    assert ledger.correction(HERE) == 1.0


def test_99_of_100_peaks_stay_within_the_correction(ledger: Ledger) -> None:
    add(ledger, 1.4, 1.2, *[1.1] * 98)
    assert ledger.correction(HERE) == 1.2
    add(ledger, *[1.1] * 99)
    assert ledger.correction(HERE) == 1.2
    add(ledger, 1.1)
    assert ledger.correction(HERE) == 1.1


def test_one_trial_cannot_spoil_all_later_ones(ledger: Ledger) -> None:
    add(ledger, 40.0)
    assert ledger.correction(HERE) == 1.5


def test_the_correction_does_not_change_with_every_trial(ledger: Ledger) -> None:
    found = set()
    for trial in range(30):
        add(ledger, 1.03 + trial * 1e-4)
        found.add(ledger.correction(HERE))
    assert found == {1.03}


@pytest.mark.parametrize("field", ["device", "precision", "torch", "transformers"])
def test_measurements_under_other_circumstances_are_ignored(field: str, ledger: Ledger) -> None:
    add(ledger, 1.3, where=replace(HERE, **{field: "another"}))
    assert ledger.correction(HERE) == 1.0
    add(ledger, 1.1)
    assert ledger.correction(HERE) == 1.1


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_a_line_that_was_cut_off_is_lost_alone(kept: int, ledger: Ledger, file: Path) -> None:
    add(ledger, 1.1)
    before = file.read_text()
    add(ledger, 1.4)
    whole = file.read_text()
    file.write_text(before + whole[len(before) :][: kept if kept >= 0 else -1])
    assert ledger.correction(HERE) == 1.1
    # The next entry does not continue the torn line.
    add(ledger, 1.2)
    assert ledger.correction(HERE) == 1.2


@pytest.mark.parametrize(
    "line", ["", "[]", "3", "null", "{}", '{"device": "cpu"}', "\x00\x00", '"predicted_gib"', '{"predicted_gib": 0}']
)
def test_lines_of_another_kind_are_passed_over(line: str, ledger: Ledger, file: Path) -> None:
    add(ledger, 1.1)
    with file.open("a") as stream:
        stream.write(f"\n{line}\n")
    add(ledger, 1.2)
    assert ledger.correction(HERE) == 1.2


def test_a_damaged_line_is_passed_over(ledger: Ledger, file: Path) -> None:
    add(ledger, 1.1, 1.2)
    file.write_text(file.read_text().replace('"measured_gib": 2.4', '"measured_gib": 2.9'))
    assert ledger.correction(HERE) == 1.1


def test_a_prediction_of_nothing_is_passed_over(ledger: Ledger) -> None:
    ledger.add(HERE, predicted_gib=0.0, measured_gib=1.0)
    assert ledger.correction(HERE) == 1.0


def test_the_end_of_a_long_ledger_counts(ledger: Ledger, file: Path) -> None:
    add(ledger, *[1.4] * 50)
    add(ledger, 1.1)
    line = file.read_text().splitlines()[-1]
    with file.open("a") as stream:
        stream.write(f"\n{line}" * 4000)
    add(ledger, 1.2)
    assert file.stat().st_size > 2**18
    # The new entry is one of more than a thousand that are read; the first ones are out of reach.
    assert ledger.correction(HERE) == 1.1
    add(ledger, *[1.2] * 30)
    assert ledger.correction(HERE) == 1.2


def test_lines_of_several_processes_at_once_do_not_mix(ledger: Ledger, file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trainables.planning.ledger import Circumstances, Ledger\n"
        "where, ledger = Circumstances('cpu', sys.argv[2], '2.13', '5.23'), Ledger(Path(sys.argv[1]))\n"
        "for trial in range(300): ledger.add(where, predicted_gib=1.0, measured_gib=1.0 + int(sys.argv[2]) / 10)\n"
    )
    # Each writer is a process, identified by the name that it gives its precision.
    names = ["1", "2", "3", "4"]
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), name]) for name in names]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    assert len([line for line in file.read_text().splitlines() if line]) == 1200
    for name in names:
        assert ledger.correction(replace(HERE, precision=name)) == 1.0 + int(name) / 10
