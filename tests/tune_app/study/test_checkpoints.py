"""Checkpoints: those of open trials and the best one of each of the best trials stay, the others go."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune import Checkpoint

from tune_app.study.checkpoints import BEST, LATEST, CheckpointKeeper, CheckpointStorage, remove_orphans


class Run:
    """A run directory in which trials write checkpoints, as Ray lays them out."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.attributes: dict[int, dict[str, str]] = {}
        self.ended: dict[int, FrozenTrial] = {}
        self.keeper = CheckpointKeeper(CheckpointStorage(str(self.folder)), keep, [])

    def write(self, number: int, epoch: int, is_best: bool) -> None:
        path = self.folder / f"trial-{number}" / f"checkpoint-{epoch}"
        path.mkdir(parents=True)
        (path / "model").write_text("weights")
        checkpoint = Checkpoint.from_directory(str(path))
        self.attributes[number] = self.keeper.add(number, checkpoint, is_best=is_best)

    def end(self, number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> None:
        self.told(number, value, state)
        self.keeper.settle(self.ended[number])

    def told(self, number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> None:
        """Its end is in the study, and no more."""
        trial = create_trial(state=state, value=value, user_attrs=dict(self.attributes.get(number, {})))
        trial.number = number
        self.ended[number] = trial

    def resume(self, keep: int) -> None:
        running = []
        for number, attributes in self.attributes.items():
            if number not in self.ended:
                trial = create_trial(state=TrialState.RUNNING, user_attrs=dict(attributes))
                trial.number = number
                running.append(trial)
        self.keeper = CheckpointKeeper(CheckpointStorage(str(self.folder)), keep, [*self.ended.values(), *running])

    def left(self) -> list[str]:
        """What is left once the study is kept."""
        self.keeper.sweep()
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob("trial-*/*"))

    def folders(self) -> list[str]:
        self.keeper.sweep()
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return lambda keep: Run(tmp_path, keep)


def test_an_open_trial_keeps_its_latest_and_its_best_checkpoint(run: Any) -> None:
    trials = run(1)
    for epoch, is_best in ((1, True), (2, True), (3, False), (4, False)):
        trials.write(0, epoch, is_best)
    assert trials.left() == ["trial-0/checkpoint-2", "trial-0/checkpoint-4"]
    assert Path(trials.attributes[0][LATEST]).name == "checkpoint-4"
    assert Path(trials.attributes[0][BEST]).name == "checkpoint-2"


def test_the_first_checkpoint_is_the_best_so_far_whatever_was_said(run: Any) -> None:
    trials = run(1)
    trials.write(0, 3, is_best=False)
    assert trials.attributes[0][BEST] == trials.attributes[0][LATEST]


def test_a_complete_trial_keeps_its_best_checkpoint_alone(run: Any) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    trials.write(0, 2, False)
    trials.end(0, 0.5)
    assert trials.left() == ["trial-0/checkpoint-1"]


def test_only_the_best_trials_keep_theirs_and_the_earlier_among_equals(run: Any) -> None:
    trials = run(2)
    for number, value in enumerate([0.5, 0.25, 0.75, 0.5, 0.1]):
        trials.write(number, 1, True)
        trials.end(number, value)
    assert trials.left() == ["trial-0/checkpoint-1", "trial-2/checkpoint-1"]
    assert trials.folders() == ["trial-0", "trial-2"], "no empty folder stays behind"


def test_nothing_goes_before_the_study_is_kept_that_no_longer_needs_it(run: Any, tmp_path: Path) -> None:
    trials = run(1)
    for epoch in (1, 2):
        trials.write(0, epoch, True)
    trials.end(0, None, TrialState.PRUNED)
    assert len(list(tmp_path.glob("trial-0/*"))) == 2
    assert trials.left() == []


def test_what_a_store_does_not_let_go_of_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted, answers = [], [OSError("no answer"), None, None]

    def delete(storage: CheckpointStorage, recorded: str) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer
        deleted.append(recorded)

    monkeypatch.setattr(CheckpointStorage, "delete", delete)
    trial = create_trial(state=TrialState.RUNNING, user_attrs={LATEST: "s3://bucket/x/2", BEST: "s3://bucket/x/1"})
    ended = create_trial(state=TrialState.PRUNED, user_attrs=trial.user_attrs)
    trial.number = ended.number = 0
    keeper = CheckpointKeeper(CheckpointStorage("s3://bucket"), 0, [trial])
    keeper.settle(ended)
    keeper.sweep()
    keeper.sweep()
    assert (deleted, len(answers)) == ([], 2), "not at once"
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    keeper.sweep()
    keeper.sweep()
    assert deleted == ["s3://bucket/x/1", "s3://bucket/x/2"]


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_a_trial_that_did_not_complete_keeps_nothing_and_takes_nothing_away(run: Any, state: TrialState) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    trials.end(0, 0.1)
    trials.write(1, 1, True)
    trials.write(2, 1, True)
    trials.end(1, None, state)
    assert trials.left() == ["trial-0/checkpoint-1", "trial-2/checkpoint-1"]


def test_a_better_trial_does_not_touch_those_in_progress(run: Any) -> None:
    trials = run(1)
    for number in range(3):
        trials.write(number, 1, True)
    trials.end(1, 0.9)
    trials.end(0, 0.1)
    assert trials.left() == ["trial-1/checkpoint-1", "trial-2/checkpoint-1"]


def test_nothing_is_kept_of_ended_trials_where_none_is_wanted(run: Any) -> None:
    trials = run(0)
    trials.write(0, 1, True)
    assert trials.left() == ["trial-0/checkpoint-1"]
    trials.end(0, 0.5)
    assert trials.folders() == []


def test_a_trial_without_a_checkpoint_ends_like_any_other(run: Any) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    trials.end(0, 0.5)
    trials.end(1, 0.9)
    assert trials.left() == [], "the better trial has none to keep"
    trials.end(2, None, TrialState.FAIL)


def test_a_resumed_search_keeps_the_same_ones(run: Any) -> None:
    trials = run(2)
    for number, value in enumerate([0.5, 0.25]):
        trials.write(number, 1, True)
        trials.end(number, value)
    trials.write(2, 1, True)
    trials.resume(keep=2)
    trials.write(2, 2, False)
    assert trials.left() == [
        f"trial-{path}" for path in ("0/checkpoint-1", "1/checkpoint-1", "2/checkpoint-1", "2/checkpoint-2")
    ]
    trials.end(2, 0.75)
    assert trials.left() == ["trial-0/checkpoint-1", "trial-2/checkpoint-1"]


def test_fewer_are_kept_from_the_next_end_on_where_fewer_are_wanted(run: Any) -> None:
    trials = run(3)
    for number, value in enumerate([0.5, 0.25, 0.75]):
        trials.write(number, 1, True)
        trials.end(number, value)
    trials.resume(keep=1)
    trials.write(3, 1, True)
    trials.end(3, 0.1)
    assert trials.left() == ["trial-2/checkpoint-1"]


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE])
def test_what_a_killed_search_left_of_an_ended_trial_goes_at_the_next_end(run: Any, state: TrialState) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    trials.end(0, 0.9)
    trials.write(1, 1, True)
    trials.told(1, 0.1 if state == TrialState.COMPLETE else None, state)
    trials.resume(keep=1)
    trials.write(2, 1, True)
    trials.end(2, 0.2)
    assert trials.left() == ["trial-0/checkpoint-1"]


def test_a_checkpoint_that_someone_deleted_is_no_defect(run: Any, tmp_path: Path) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    shutil.rmtree(tmp_path / "trial-0")
    trials.write(0, 2, True)
    trials.end(0, 0.5)
    assert trials.left() == ["trial-0/checkpoint-2"]


def test_what_no_trial_knows_of_is_gone_when_a_search_begins_again(tmp_path: Path) -> None:
    storage = CheckpointStorage(str(tmp_path))
    for place in ("trial-00000-a/checkpoint_0", "trial-00000-a/checkpoint_1", "trial-00000-b/checkpoint_0"):
        (tmp_path / "checkpoints" / place).mkdir(parents=True)
        (tmp_path / "checkpoints" / place / "state.pt").write_text("weights")
    (tmp_path / "checkpoints" / "trial-00001-c").mkdir()
    (tmp_path / "checkpoints" / "trial-00001-c" / "error.txt").write_text("of Ray's")
    (tmp_path / "checkpoints" / "notes").mkdir()
    trials = [
        create_trial(
            state=TrialState.RUNNING,
            user_attrs={LATEST: str(tmp_path / "checkpoints" / "trial-00000-a" / "checkpoint_1"), BEST: None},
        )
    ]
    remove_orphans(storage, "checkpoints", trials)
    left = {str(path.relative_to(tmp_path / "checkpoints")) for path in (tmp_path / "checkpoints").rglob("*")}
    kept = "trial-00000-a/checkpoint_1"
    assert left == {"notes", "trial-00000-a", kept, f"{kept}/state.pt"}
    remove_orphans(storage, "none yet", trials)
    # A run directory that was moved: its checkpoints are the same.
    (tmp_path / "checkpoints").rename(tmp_path / "moved")
    remove_orphans(storage, "moved", trials)
    assert (tmp_path / "moved" / kept / "state.pt").exists()
