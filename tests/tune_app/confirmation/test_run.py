"""A whole confirmation: trainings on Ray, the winner, the test part opened once, and its use afterwards."""

import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tune_app import load_study
from tune_app.cli import cli
from tune_app.config import load_config
from tune_app.confirmation import run
from tune_app.confirmation.run import ConfirmationEnd, Request, few_groups, run_confirmation
from tune_app.console import Console
from tune_app.distributed.breaker import LoopEnd
from tune_app.errors import UserError
from tune_app.screening.preconditions import development_of
from tune_app.study.checkpoints import BEST
from tune_app.study.store import StudyStore, search_lock
from tune_app.study.store import load_study as load_store


def confirmed(searched: Any, request: Request) -> tuple[ConfirmationEnd, str]:
    output = io.StringIO()
    end = run_confirmation(searched.named(), request, console=Console(file=output, width=200))
    return end, output.getvalue()


def trainings_of(searched: Any) -> StudyStore:
    return load_store(searched.run_dir / "confirm" / "confirm-seeds", "confirm-seeds", None)


def test_a_confirmation_that_was_cut_off_names_no_winner(searched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    searched.complete(3e-4, 0.5, is_recommended=True)
    searched.complete(3e-3, 0.9)
    monkeypatch.setattr(run, "_one_ray", lambda *_: nullcontext())
    monkeypatch.setattr(run.Trainings, "train", lambda *_: LoopEnd("a signal", interrupted=True))
    end, _ = confirmed(searched, Request(top=1, seeds=2))
    assert (end.confirmation, end.winner, end.interrupted) == (None, None, True)
    assert end.why == "not finished, so no winner is named; the same command resumes the confirmation"
    assert not (searched.run_dir / "confirm.json").exists()


@pytest.mark.slow
def test_the_winner_is_retrained_tested_once_and_exported(
    searched: Any, ray_with_one_slot: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recommended = searched.complete(3e-4, 0.5, is_recommended=True)
    leader = searched.complete(3e-3, 0.9)
    end, output = confirmed(searched, Request(top=1, seeds=2))
    found = end.confirmation
    assert found is not None
    assert (end.why, end.interrupted, end.winner) == (None, False, found.winner)
    assert found.winner in (leader, recommended)
    assert [(who.number, who.role, who.search_value) for who in found.candidates] == [
        (leader, "leader", 0.9),
        (recommended, "recommended", 0.5),
    ]
    assert all(len(who.values) == len(who.corrected) == 2 and not who.problems for who in found.candidates)
    assert sum(who.p_best for who in found.candidates) == pytest.approx(1.0)
    assert found.test is not None
    assert found.test.number == found.winner
    assert found.test.models == 2
    assert found.test.interval[0] <= found.test.value <= found.test.interval[1]
    assert found.test.baseline is not None
    assert "opening the test part" in output

    # Both were trained on the same seeds, and the study holds nothing but the trainings and the test scores.
    trials = trainings_of(searched).trials()
    seeds = [{name: value for name, value in trial.params.items() if name.startswith("seeds.")} for trial in trials[:4]]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
    assert len(trials) == 4 + found.test.models + (found.test.recommended.models if found.test.recommended else 0)
    assert not list(searched.run_dir.glob("confirm/confirm-seeds/checkpoints/*/*")), (
        "the models are not needed any more"
    )
    assert trials[0].user_attrs[BEST]

    # The same command again trains nothing, and the test part keeps its first figure.
    again, output = confirmed(searched, Request(top=1, seeds=2))
    assert again.confirmation is not None
    assert again.confirmation.test == found.test
    first_figure = f"the test part was opened on {found.test.opened}, for models of this winner; the first figure stays"
    assert first_figure not in found.remarks
    assert first_figure in again.confirmation.remarks
    assert len(trainings_of(searched).trials()) == len(trials)
    stored = json.loads((searched.run_dir / "confirm.json").read_text())
    assert stored == json.loads(json.dumps(again.confirmation.as_dict()))

    study = load_study(searched.run_dir)
    assert study.confirmation == again.confirmation
    exported = study.export(tmp_path / "out")
    pinned = load_config(exported.best).pinned
    assert pinned is not None
    assert (pinned.trial, pinned.ranking, pinned.expected) == (found.winner, "confirmation", found.expected_value)
    assert "confirmed: trial" in exported.best.read_text()
    shown = CliRunner().invoke(cli, ["status", str(searched.run_dir)], standalone_mode=False)
    assert f"confirmed: trial {found.winner}, macro_f1 {found.expected_value:.4f} expected (2 seeds)" in shown.output


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(top=0), r"^--top: 0: give"),
        (Request(seeds=0), r"^--seeds: 0: give"),
        (Request(seeds=31), r"^--seeds: 31: give"),
        (Request(folds=1), r"^--folds: 1: give"),
        (Request(max_hours=0.0), r"^--max-hours: 0.0: give"),
        (Request(max_hours=float("nan")), r"^--max-hours: nan: give"),
    ],
)
def test_impossible_numbers_are_refused(searched: Any, request_: Request, message: str) -> None:
    with pytest.raises(UserError, match=message):
        confirmed(searched, request_)


def test_nothing_is_written_for_a_study_without_a_complete_trial(searched: Any) -> None:
    before = sorted(searched.run_dir.iterdir())
    with pytest.raises(UserError, match="nothing to confirm"):
        confirmed(searched, Request())
    assert sorted(searched.run_dir.iterdir()) == before


def test_a_study_that_is_searched_at_present_is_refused(searched: Any) -> None:
    searched.complete(3e-3, 0.9)
    with search_lock(searched.run_dir), pytest.raises(UserError, match="a search is running on it"):
        confirmed(searched, Request())


def test_changed_data_is_refused(tmp_path: Path, searched_on: Any) -> None:
    searched = searched_on("rows.csv")
    searched.complete(3e-3, 0.9)
    file = tmp_path / "rows.csv"
    file.write_text(file.read_text().replace("calm", "restful"))
    with pytest.raises(UserError, match=r"^data.path: .*rows.csv has changed since the search of searched"):
        confirmed(searched, Request())


def test_an_interval_over_few_groups_is_remarked(searched_on: Any) -> None:
    development = development_of(searched_on("rows.csv").config)
    assert few_groups(development) == ["the test part holds 6 groups: intervals over so few groups are too narrow"]


def test_hours_for_less_than_the_first_round_are_refused(searched: Any, ray_with_one_slot: None) -> None:
    searched.complete(3e-3, 0.9, working_s=3600.0)
    with pytest.raises(UserError, match=r"^--max-hours: 0.5 is less than the first 6 trainings are expected to take"):
        confirmed(searched, Request(top=1, seeds=3, max_hours=0.5))
    assert not (searched.run_dir / "confirm.json").exists()
