"""The held-out test part: no code path of a search opens it, and no report of a trial depends on it."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from trainables import inputs
from trainables.data import split
from trainables.data.split import read_development, read_test_rows
from trainables.devices.cpu import CpuDevice
from trainables.reports import TrialReport
from trainables.settings import TrialSettings
from trainables.trial import TrialFolders, run_trial
from tune_app.config import RunConfig, parse_config
from tune_app.console import Console
from tune_app.experiment import run_search
from tune_app.training import run_training

WORDS = ("rain", "coffee", "music", "letters", "winter", "bread")


class TestPartOpened(Exception):
    """Error for any access to the test rows."""

    __test__ = False


def write_data(path: Path, *, text_of_test: str | None, settings: TrialSettings | None = None) -> None:
    """Write 90 rows in 30 groups, each row with a word that reveals the label; the test part may have another text."""
    groups = set()
    if text_of_test is not None and settings is not None:
        groups = set(read_test_rows(settings.data, None, settings.seeds.split).groups)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "group_id"])
        for row in range(90):
            group, label = row // 3, row % 2
            text = f"{WORDS[row % len(WORDS)]} {('calm', 'restless')[label]} {WORDS[row // len(WORDS) % len(WORDS)]}"
            # Equal texts would tie groups together, so that another text would change the split.
            writer.writerow([f"{text_of_test if str(group) in groups else text} {row}", label, group])


def configuration(folder: Path, *overrides: str) -> RunConfig:
    raw = {
        "study": {"name": "held-out", "dir": str(folder / "runs")},
        "data": {"path": str(folder / "rows.csv")},
        "model": {"name": "tiny-bert"},
        "tok": {"max_length": 16},
        "train": {"epochs": 2},
        "search": {"trials": 2, "sampler": "exhaustive"},
        "scheduler": {"name": "none"},
        "tracking": {"enabled": False},
        "space": {"optim.lr": {"choices": [1e-3, 3e-3]}},
    }
    return parse_config(raw, overrides)


def opened(*_: Any, **__: Any) -> Any:
    raise TestPartOpened


@pytest.fixture
def nobody_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make access to the test rows raise an error in this process, which prepares and drives searches."""
    for module in (split, inputs):
        monkeypatch.setattr(module, "read_test_rows", opened)


@pytest.mark.slow
@pytest.mark.parametrize("folds", ["null", "2"])
def test_a_search_never_opens_the_test_part(
    folds: str, nobody_opens_it: None, ray_with_one_slot: None, tmp_path: Path
) -> None:
    def train_nothing(settings: TrialSettings, report: Any, workspace: Any) -> None:
        report(TrialReport(1, 0.5, ended="complete"))

    write_data(tmp_path / "rows.csv", text_of_test=None)
    config = configuration(tmp_path, f"data.folds={folds}")
    end = run_search(config, console=Console(file=io.StringIO()), run_trial=train_nothing)
    assert end.status.trials["complete"] == 2


@pytest.mark.parametrize("folds", ["null", "2"])
def test_a_trial_never_opens_the_test_part(folds: str, nobody_opens_it: None, tmp_path: Path) -> None:
    write_data(tmp_path / "rows.csv", text_of_test=None)
    reports: list[TrialReport] = []
    folders = TrialFolders(tmp_path / "cache", tmp_path / "steps")
    settings = configuration(tmp_path, "space=null", f"data.folds={folds}").trial_settings()
    run_trial(settings, report=reports.append, folders=folders, device=CpuDevice())
    assert reports[-1].ended == "complete"
    assert 0 < reports[-1].value <= 1


@pytest.mark.slow
def test_a_training_run_does_open_it(nobody_opens_it: None, tmp_path: Path) -> None:
    write_data(tmp_path / "rows.csv", text_of_test=None)
    with pytest.raises(TestPartOpened):
        run_training(configuration(tmp_path, "space=null"), tmp_path / "model", console=Console(file=io.StringIO()))


@pytest.mark.parametrize("folds", ["null", "2"])
def test_whatever_stands_in_the_test_part_a_trial_says_the_same(folds: str, tmp_path: Path) -> None:
    settings = configuration(tmp_path, "space=null", f"data.folds={folds}").trial_settings()

    def trained() -> tuple[list[Any], int]:
        reports: list[TrialReport] = []
        cache = tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"
        run_trial(settings, report=reports.append, folders=TrialFolders(cache, tmp_path / "steps"), device=CpuDevice())
        (ids,) = cache.glob("*/texts.ids.npy")
        results = [
            (trial_report.step, str(trial_report.value), trial_report.metrics, trial_report.facts["parameters"])
            for trial_report in reports
        ]
        return results, ids.stat().st_size

    write_data(tmp_path / "rows.csv", text_of_test=None)
    before, fingerprint = trained(), read_development(settings.data, None, settings.seeds.split).fingerprint
    write_data(tmp_path / "rows.csv", text_of_test="zebra quartz " * 20, settings=settings)
    assert read_test_rows(settings.data, None, settings.seeds.split).texts[0].startswith("zebra")
    assert read_development(settings.data, None, settings.seeds.split).fingerprint != fingerprint, "another data set"
    assert trained() == before
