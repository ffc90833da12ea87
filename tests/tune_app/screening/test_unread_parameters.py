"""Parameters that nothing reads: an error before any training."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainables import dry_run, session
from trainables.settings import ScheduleSettings, TrialSettings
from trainables.task_registry import TASKS
from tune_app.cli import main
from tune_app.config import parse_config, searchable_names
from tune_app.errors import UserError
from tune_app.screening.unread_parameters import check_parameters_are_read

SPACE = {
    "model.name": {"choices": ["tiny-bert", "small-bert", "tiny-deberta"]},
    "optim.lr": {"low": 1e-5, "high": 1e-3, "log": True},
    "schedule.name": {"choices": ["linear", "polynomial", "cosine_restarts"]},
    "schedule.power": {"low": 1.0, "high": 3.0},
    "schedule.cycles": {"low": 1, "high": 3},
    "schedule.warmup_ratio": {"choices": [0.0, 0.1]},
    "loss.name": {"choices": ["cross_entropy", "focal", "label_smoothing"]},
    "loss.gamma": {"choices": [1.0, 2.0]},
    "loss.smoothing": {"choices": [0.1, 0.2]},
    "head.layers": {"low": 0, "high": 2},
    "head.width": {"choices": [16, 32]},
}
"""Space with parameters that exclude each other: no single configuration reads them all."""


def config_of(space: dict[str, Any]) -> Any:
    return parse_config({"study": {"name": "test", "dir": "/runs"}, "data": {"path": "demo"}, "space": space})


def checked(space: dict[str, Any]) -> list[str]:
    """Return the messages of the check after the first, which announces that it takes a moment."""
    messages: list[str] = []
    check_parameters_are_read(config_of(space), [*map(str, space["model.name"]["choices"])], messages.append)
    return messages[1:]


def test_a_space_of_which_every_parameter_is_read_passes() -> None:
    assert checked(SPACE) == []


@pytest.mark.parametrize("task", TASKS)
def test_everything_that_can_be_searched_is_read(task: str) -> None:
    config = parse_config(
        {
            "study": {"name": "test", "dir": "/runs"},
            "data": {"path": "demo"},
            "task": {"name": task},
            "model": {"name": "tiny-bert"},
            "space": {"from": "wide"},
        }
    )
    messages: list[str] = []
    check_parameters_are_read(config, ["tiny-bert"], messages.append)
    assert len(messages) == 1, "no family that could not be tried"


@pytest.fixture
def deaf_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make training read only the name of the schedule's settings."""
    real = session.build_schedule

    def deaf(optimizer: Any, settings: ScheduleSettings, total_steps: int) -> Any:
        return real(optimizer, ScheduleSettings(settings.name), total_steps)

    monkeypatch.setattr(session, "build_schedule", deaf)


@pytest.mark.usefixtures("deaf_schedule")
def test_a_knob_that_nothing_reads_is_named_with_what_should_have_used_it() -> None:
    with pytest.raises(UserError) as caught:
        checked(SPACE)
    message = str(caught.value)
    assert message.startswith("space.schedule.power: nothing reads it in a run of task criteria with a bert model")
    assert "not even with schedule.name=polynomial; drop it" in message
    assert len(message.splitlines()) == 1


@pytest.mark.usefixtures("deaf_schedule")
@pytest.mark.parametrize("quiet", [True, False])
def test_a_search_with_a_dead_knob_is_bad_input(
    quiet: bool, plain_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_config["space"]["schedule.warmup_ratio"] = {"choices": [0.0, 0.1]}
    (tmp_path / "c.yaml").write_text(json.dumps(plain_config))
    with pytest.raises(SystemExit) as exited:
        main(["search", str(tmp_path / "c.yaml"), *["--quiet"] * quiet])
    captured = capsys.readouterr()
    assert exited.value.code == 2
    assert captured.err.startswith("headroom: space.schedule.warmup_ratio: nothing reads it")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == "" or not quiet
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


def test_every_family_is_tried_once_in_as_many_configurations_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[TrialSettings] = []

    def spy(settings: TrialSettings, files: Any) -> frozenset[str]:
        tried.append(settings)
        deaf = {"head.width"} if settings.model.name == "tiny-deberta" else set[str]()
        return frozenset(searchable_names()) - deaf

    monkeypatch.setattr(dry_run, "settings_read", spy)
    with pytest.raises(
        UserError, match=r"space\.head\.width: .* a deberta-v2 model, .*not even with head.layers above 0"
    ):
        checked(SPACE)
    assert {settings.model.name for settings in tried} == {"tiny-bert", "tiny-deberta"}
    of_bert = [settings for settings in tried if settings.model.name == "tiny-bert"]
    assert {settings.schedule.name for settings in of_bert} >= {"polynomial", "cosine_restarts"}
    assert {settings.loss.name for settings in of_bert} >= {"focal", "label_smoothing"}
    assert all(settings.head.layers > 0 for settings in of_bert[:1])
    assert len(of_bert) == 2


def test_a_model_is_not_asked_for_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[TrialSettings] = []

    def spy(settings: TrialSettings, files: Any) -> frozenset[str]:
        tried.append(settings)
        return frozenset(searchable_names())

    monkeypatch.setattr(dry_run, "settings_read", spy)
    space = {
        "model.name": {"choices": ["albert-base-v2", "tiny-bert"]},
        "model.freeze_layers": {"choices": [0, 1]},
        "optim.layer_decay": {"low": 0.5, "high": 1.0},
    }
    assert checked(space) == []
    of_albert, of_bert = tried
    assert (of_albert.model.name, of_albert.model.freeze_layers, of_albert.optim.layer_decay) == (
        "albert-base-v2",
        0,
        1,
    )
    assert of_bert.model.name == "tiny-bert"


def test_configurations_that_cannot_run_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = dry_run.settings_read, []

    def unlucky(settings: TrialSettings, files: Any) -> frozenset[str]:
        calls.append(settings)
        if len(calls) <= 2:
            raise ValueError("planted: cannot run")
        return real(settings, files)

    monkeypatch.setattr(dry_run, "settings_read", unlucky)
    assert checked({**SPACE, "model.name": {"choices": ["tiny-bert"]}}) == []
    assert len(calls) == 4


def test_families_that_could_not_be_tried_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(settings: TrialSettings, files: Any) -> frozenset[str]:
        raise ValueError("planted: cannot run")

    monkeypatch.setattr(dry_run, "settings_read", never)
    assert checked({**SPACE, "model.name": {"choices": ["tiny-bert", "tiny-roberta"]}}) == [
        f"cannot check for parameters that nothing reads: {family}: ValueError: planted: cannot run"
        for family in ("bert", "roberta")
    ]
