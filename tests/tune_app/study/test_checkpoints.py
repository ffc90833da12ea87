"""Checkpoints: those of open trials and the best one of each of the best trials stay, the others are deleted."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune import Checkpoint

from tune_app.study.checkpoints import (
    BEST,
    LATEST,
    CheckpointKeeper,
    CheckpointStorage,
    StudyCheckpoints,
    trial_folder,
)

ID = "0123456789abcdef" * 2


def checkpoints_of(folder: Path, messages: list[str] | None = None, name: str = "checkpoints") -> StudyCheckpoints:
    return StudyCheckpoints(CheckpointStorage(str(folder)), name, ID, (messages if messages is not None else []).append)


def write_checkpoint(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "state.pt").write_text("weights")
    return str(folder)


class Run:
    """Run directory in which trials write checkpoints, as Ray names them."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.attributes: dict[int, dict[str, str]] = {}
        self.ended: dict[int, FrozenTrial] = {}
        self.keeper = CheckpointKeeper(checkpoints_of(folder), keep, [])

    def write(self, number: int, epoch: int, is_best: bool) -> None:
        path = self.folder / "checkpoints" / trial_folder(number, ID, "a") / f"checkpoint_{epoch}"
        checkpoint = Checkpoint.from_directory(write_checkpoint(path))
        self.attributes[number] = self.keeper.add(number, checkpoint, is_best=is_best)

    def end(self, number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> None:
        self.close_trial(number, value, state)
        self.keeper.settle(self.ended[number])

    def close_trial(self, number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> None:
        """Record the trial's end in the study, and do nothing else."""
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
        self.keeper = CheckpointKeeper(checkpoints_of(self.folder), keep, [*self.ended.values(), *running])

    def left(self) -> list[str]:
        """Return the checkpoints that are left after the keeper's sweep."""
        self.keeper.sweep()
        return sorted(f"{_short(path.parent)}/{path.name}" for path in self.folder.glob("checkpoints/trial-*/*"))

    def folders(self) -> list[str]:
        self.keeper.sweep()
        return sorted(map(_short, (self.folder / "checkpoints").iterdir()))


def _short(folder: Path) -> str:
    assert folder.name.endswith(f"-{ID}_a")
    return f"trial-{int(folder.name.split('-')[1])}"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return lambda keep: Run(tmp_path, keep)


def test_an_open_trial_keeps_its_latest_and_its_best_checkpoint(run: Any) -> None:
    trials = run(1)
    for epoch, is_best in ((1, True), (2, True), (3, False), (4, False)):
        trials.write(0, epoch, is_best)
    assert trials.left() == ["trial-0/checkpoint_2", "trial-0/checkpoint_4"]
    assert Path(trials.attributes[0][LATEST]).name == "checkpoint_4"
    assert Path(trials.attributes[0][BEST]).name == "checkpoint_2"


def test_the_first_checkpoint_is_the_best_so_far_whatever_was_said(run: Any) -> None:
    trials = run(1)
    trials.write(0, 3, is_best=False)
    assert trials.attributes[0][BEST] == trials.attributes[0][LATEST]


def test_a_complete_trial_keeps_its_best_checkpoint_alone(run: Any) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    trials.write(0, 2, False)
    trials.end(0, 0.5)
    assert trials.left() == ["trial-0/checkpoint_1"]


def test_only_the_best_trials_keep_theirs_and_the_earlier_among_equals(run: Any) -> None:
    trials = run(2)
    for number, value in enumerate([0.5, 0.25, 0.75, 0.5, 0.1]):
        trials.write(number, 1, True)
        trials.end(number, value)
    assert trials.left() == ["trial-0/checkpoint_1", "trial-2/checkpoint_1"]
    assert trials.folders() == ["trial-0", "trial-2"], "no empty folder stays behind"


def test_nothing_goes_before_the_study_is_kept_that_no_longer_needs_it(run: Any, tmp_path: Path) -> None:
    trials = run(1)
    for epoch in (1, 2):
        trials.write(0, epoch, True)
    trials.end(0, None, TrialState.PRUNED)
    assert len(list(tmp_path.glob("checkpoints/trial-*/*"))) == 2
    assert trials.left() == []


def test_a_failed_deletion_in_a_store_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted, answers = [], [OSError("no answer"), None, None]

    def delete(checkpoints: StudyCheckpoints, recorded: str) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer
        deleted.append(recorded)

    monkeypatch.setattr(StudyCheckpoints, "delete", delete)
    trial = create_trial(state=TrialState.RUNNING, user_attrs={LATEST: "s3://bucket/x/2", BEST: "s3://bucket/x/1"})
    ended = create_trial(state=TrialState.PRUNED, user_attrs=trial.user_attrs)
    trial.number = ended.number = 0
    keeper = CheckpointKeeper(StudyCheckpoints(CheckpointStorage("s3://bucket"), "x", ID, print), 0, [trial])
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
    assert trials.left() == ["trial-0/checkpoint_1", "trial-2/checkpoint_1"]


def test_a_better_trial_does_not_touch_those_in_progress(run: Any) -> None:
    trials = run(1)
    for number in range(3):
        trials.write(number, 1, True)
    trials.end(1, 0.9)
    trials.end(0, 0.1)
    assert trials.left() == ["trial-1/checkpoint_1", "trial-2/checkpoint_1"]


def test_nothing_is_kept_of_ended_trials_where_none_is_wanted(run: Any) -> None:
    trials = run(0)
    trials.write(0, 1, True)
    assert trials.left() == ["trial-0/checkpoint_1"]
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
        f"trial-{path}" for path in ("0/checkpoint_1", "1/checkpoint_1", "2/checkpoint_1", "2/checkpoint_2")
    ]
    trials.end(2, 0.75)
    assert trials.left() == ["trial-0/checkpoint_1", "trial-2/checkpoint_1"]


def test_fewer_are_kept_from_the_next_end_on_where_fewer_are_wanted(run: Any) -> None:
    trials = run(3)
    for number, value in enumerate([0.5, 0.25, 0.75]):
        trials.write(number, 1, True)
        trials.end(number, value)
    trials.resume(keep=1)
    trials.write(3, 1, True)
    trials.end(3, 0.1)
    assert trials.left() == ["trial-2/checkpoint_1"]


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE])
def test_files_that_a_killed_search_left_of_an_ended_trial_go_at_the_next_end(run: Any, state: TrialState) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    trials.end(0, 0.9)
    trials.write(1, 1, True)
    trials.close_trial(1, 0.1 if state == TrialState.COMPLETE else None, state)
    trials.resume(keep=1)
    trials.write(2, 1, True)
    trials.end(2, 0.2)
    assert trials.left() == ["trial-0/checkpoint_1"]


def test_a_checkpoint_that_someone_deleted_is_no_defect(run: Any, tmp_path: Path) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    shutil.rmtree(tmp_path / "checkpoints")
    trials.write(0, 2, True)
    trials.end(0, 0.5)
    assert trials.left() == ["trial-0/checkpoint_2"]


def test_a_run_directory_that_was_moved_has_its_checkpoints_still(run: Any, tmp_path: Path) -> None:
    trials = run(1)
    trials.write(0, 1, True)
    recorded = trials.attributes[0][LATEST]
    (tmp_path / "moved").mkdir()
    (tmp_path / "checkpoints").rename(tmp_path / "moved" / "checkpoints")
    moved = checkpoints_of(tmp_path / "moved")
    own = moved.own(recorded)
    assert own == recorded.replace(str(tmp_path), str(tmp_path / "moved"))
    moved.delete(recorded)
    assert not Path(own).exists()
    assert moved.own(recorded) == own, "that it is gone is said where it is read"


def test_checkpoints_that_no_trial_records_go_when_a_search_resumes(tmp_path: Path) -> None:
    folder, messages = tmp_path / "checkpoints", list[str]()
    first, second, third = (trial_folder(number, ID, attempt) for number, attempt in ((0, "a"), (0, "b"), (1, "c")))
    kept = write_checkpoint(folder / first / "checkpoint_1")
    for place in (folder / first / "checkpoint_0", folder / second / "checkpoint_0"):
        write_checkpoint(place)
    (folder / third).mkdir()
    (folder / third / "error.txt").write_text("of Ray's")
    (folder / "notes").mkdir()
    trials = [create_trial(state=TrialState.RUNNING, user_attrs={LATEST: kept, BEST: None})]
    checkpoints_of(tmp_path, messages).remove_orphans(trials)
    assert {path.name for path in folder.iterdir()} == {"notes", first}
    assert [path.name for path in (folder / first).iterdir()] == ["checkpoint_1"]
    checkpoints_of(tmp_path / "none yet", messages).remove_orphans(trials)
    assert messages == []
    # A moved run directory holds the same checkpoints.
    folder.rename(tmp_path / "moved")
    checkpoints_of(tmp_path, messages, "moved").remove_orphans(trials)
    assert (tmp_path / "moved" / first / "checkpoint_1" / "state.pt").exists()


FOREIGN = trial_folder(0, "f" * 32, "a")


@pytest.mark.parametrize(
    "named",
    ["/precious", f"/precious/{trial_folder(0, ID, 'a')}/checkpoint_1", f"/run/checkpoints/{FOREIGN}/checkpoint_1"],
)
def test_a_path_that_is_not_the_study_s_own_is_named_and_neither_deleted_nor_gone_on_from(
    named: str, tmp_path: Path
) -> None:
    precious = write_checkpoint(Path(f"{tmp_path}{named}"))
    messages: list[str] = []
    checkpoints = checkpoints_of(tmp_path / "run", messages)
    checkpoints.delete(precious)
    assert (Path(precious) / "state.pt").exists()
    assert len(messages) == 1
    assert messages[0].startswith(f"{precious} was not deleted: it is not in {tmp_path}/run/checkpoints, ")
    if not named.startswith("/run"):
        assert checkpoints.own(precious) is None
        assert messages[1].startswith(f"cannot resume from {precious}:")


@pytest.mark.parametrize("link", ["checkpoints", "trial", "checkpoint"])
def test_a_link_is_not_followed_wherever_it_stands(link: str, tmp_path: Path) -> None:
    trial = trial_folder(0, ID, "a")
    named = tmp_path / "run" / "checkpoints" / trial / "checkpoint_1"
    precious = Path(write_checkpoint(tmp_path / "precious" / trial / "checkpoint_1"))
    linked, there = {
        "checkpoints": (named.parent.parent, precious.parent.parent),
        "trial": (named.parent, precious.parent),
        "checkpoint": (named, precious),
    }[link]
    linked.parent.mkdir(parents=True)
    linked.symlink_to(there)
    messages: list[str] = []
    checkpoints = checkpoints_of(tmp_path / "run", messages)
    assert checkpoints.own(str(named)) is None
    messages.clear()
    checkpoints.delete(str(named))
    checkpoints.remove_orphans([])
    checkpoints.delete_all()
    assert (precious / "state.pt").exists()
    assert messages
    assert all("was not deleted" in line for line in messages)


def test_trials_of_another_study_stay_in_a_shared_folder(tmp_path: Path) -> None:
    folder, messages = tmp_path / "checkpoints", list[str]()
    own, foreign, nameless = (trial_folder(0, ID, "a"), FOREIGN, "trial-00000-a")
    for trial in (own, foreign, nameless):
        write_checkpoint(folder / trial / "checkpoint_0")
    (folder / "tuner.pkl").touch()
    checkpoints_of(tmp_path, messages).remove_orphans([])
    assert {path.name for path in folder.iterdir()} == {foreign, nameless, "tuner.pkl"}
    assert {line.split()[0] for line in messages} == {str(folder / foreign), str(folder / nameless)}
    checkpoints_of(tmp_path, messages).delete_all()
    assert {path.name for path in folder.iterdir()} == {foreign, nameless}


def test_a_study_s_folder_elsewhere_goes_whole_also_under_its_earlier_name(tmp_path: Path) -> None:
    name = f"checkpoints-{ID}"
    for storage in ("x", "x-archived", "other"):
        write_checkpoint(tmp_path / storage / name / "trial-00000-a" / "checkpoint_0")
    write_checkpoint(tmp_path / "other" / "checkpoints-y" / "trial-00000-a" / "checkpoint_0")
    precious = Path(write_checkpoint(tmp_path.parent / f"{tmp_path.name}-precious" / name))
    (tmp_path / "linked").symlink_to(precious.parent)
    messages: list[str] = []
    checkpoints = checkpoints_of(tmp_path / "x-archived", messages, name)
    earlier = str(tmp_path / "x" / name / "trial-00000-a" / "checkpoint_0")
    assert checkpoints.own(earlier) == earlier
    checkpoints.delete_all()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")} == {
        f"linked/{name}",
        "other/checkpoints-y",
    }
    assert messages[0].startswith(f"{tmp_path}/linked/{name} was not deleted")


def test_a_study_without_an_id_has_nothing_deleted(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoints" / "trial-00000-None_a" / "checkpoint_0")
    checkpoints = StudyCheckpoints(CheckpointStorage(str(tmp_path)), "checkpoints", None, lambda _: None)
    checkpoints.delete(checkpoint)
    checkpoints.delete_all()
    assert Path(checkpoint).exists()
