"""Study that a configuration or a name means, and versions for changed spaces or settings."""

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tune_app.config import RunConfig, parse_config
from tune_app.errors import UserError
from tune_app.outcomes import Outcome, carried_from
from tune_app.study.checkpoints import trial_folder
from tune_app.study.record import StudyRecord
from tune_app.study.run_dir import CONFIG_FILE, stored_config, write_config
from tune_app.study.store import JOURNAL_FILE, StudyStore, load_study, open_study, search_lock
from tune_app.study.versions import archive, begin, check_change, choose, delete, make_room, parent_of

TODAY = f"{datetime.date.today():%Y%m%d}"


@dataclass
class Shelf:
    """Run directories in a folder of the test's own, their studies in journals or in one database."""

    folder: Path
    url: str | None

    def config(self, choices: list[float], name: str = "x", **study: Any) -> RunConfig:
        return parse_config(
            {
                "study": {"name": name, "dir": str(self.folder), "storage": self.url, **study},
                "data": {"path": "demo"},
                "space": {"optim.lr": {"choices": choices}},
            }
        )

    def search(self, choices: list[float], *launched: float, fresh: bool = False, **study: Any) -> StudyStore:
        """Run a search's calls on its study.

        Each learning rate becomes a complete trial with that value.
        """
        config = self.config(choices, **study)
        record = recorded(config)
        opening = choose(config, record, fresh=fresh)
        check_change(opening, None)
        make_room(opening)
        run_dir = Path(opening.config.run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        with search_lock(run_dir):
            store, _ = begin(opening, opening.parent)
            write_config(opening.config, run_dir)
            for value in launched:
                store.close_trial(store.open_trial({"optim.lr": value}, {}), Outcome.COMPLETE, value=value)
        return store

    def load(self, name: str) -> StudyStore:
        return load_study(self.folder / name, name, self.url)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir())


def recorded(config: RunConfig) -> StudyRecord:
    assert config.space is not None
    return StudyRecord(config.space, "criteria", "macro_f1", "max", "data", config.fixed_for_study())


def shown(store: StudyStore) -> list[tuple[float, str | None]]:
    """Return each trial's value, and the trial that it was carried over from."""
    return [(trial.value or 0.0, str(carried_from(trial)) if carried_from(trial) else None) for trial in store.trials()]


@pytest.fixture
def shelf(storage_url: str | None, tmp_path: Path) -> Shelf:
    folder = tmp_path / "runs"
    folder.mkdir()
    return Shelf(folder, storage_url)


def test_the_same_configuration_means_the_same_study(shelf: Shelf) -> None:
    first = shelf.search([0.1, 0.2], 0.1)
    again = shelf.search([0.1, 0.2], 0.2)
    assert (again.name, again.id, shown(again)) == ("x", first.id, [(0.1, None), (0.2, None)])
    assert shelf.names == ["x"]


def test_a_changed_space_is_a_new_version_with_what_fits(shelf: Shelf) -> None:
    shelf.search([0.1, 0.2, 0.3], 0.1, 0.2)
    forked = shelf.search([0.2, 0.3], 0.3)
    assert forked.name == "x-v2"
    assert shown(forked) == [(0.2, "trial 1 of x"), (0.3, None)]
    assert shown(shelf.load("x")) == [(0.1, None), (0.2, None)], "the other is as it was"


def test_a_name_means_the_newest_version_that_is_about_the_same(shelf: Shelf) -> None:
    for own in ([0.1], [0.1, 0.2], [0.1, 0.2, 0.3]):
        shelf.search(own)
    assert shelf.names == ["x", "x-v2", "x-v3"]
    for choices, resumed in (([0.1], "x"), ([0.1, 0.2], "x-v2"), ([0.1, 0.2, 0.3], "x-v3"), ([0.4], "x-v4")):
        assert shelf.search(choices).name == resumed


def test_the_newer_of_two_versions_about_the_same_is_resumed(shelf: Shelf) -> None:
    shelf.search([0.1, 0.2], 0.1)
    fresh = shelf.search([0.1, 0.2], fresh=True)
    assert (fresh.name, shown(fresh), fresh.parent) == ("x-v2", [], None)
    assert shelf.search([0.1, 0.2]).name == "x-v2"
    assert shelf.search([0.1, 0.2], fresh=True).name == "x-v3"


def test_nothing_is_carried_past_a_fresh_beginning(shelf: Shelf) -> None:
    shelf.search([0.1, 0.2], 0.1)
    shelf.search([0.1, 0.2], 0.2, fresh=True)
    assert shown(shelf.search([0.1, 0.2, 0.3])) == [(0.2, "trial 0 of x-v2")]


def test_a_fork_of_a_fork_finds_again_what_the_first_had_no_place_for(shelf: Shelf) -> None:
    shelf.search([0.1, 0.2], 0.1, 0.2)
    shelf.search([0.2, 0.3], 0.3)
    third = shelf.search([0.1, 0.2, 0.3, 0.4])
    assert shown(third) == [(0.1, "trial 0 of x"), (0.2, "trial 1 of x"), (0.3, "trial 1 of x-v2")]


def test_a_version_given_by_its_own_name_stands_for_itself_and_later_ones(shelf: Shelf) -> None:
    for own in ([0.1], [0.2], [0.3]):
        shelf.search(own)
    assert shelf.search([0.2], name="x-v2").name == "x-v2"
    assert shelf.search([0.3], name="x-v2").name == "x-v3"
    assert shelf.search([0.1], name="x-v2").name == "x-v4", "not x, which came before"
    assert shelf.search([0.1], name="y-v2").name == "y-v2", "where there is none it is the first"


@pytest.mark.parametrize("on_change", ["fork", "delete"])
def test_a_study_that_a_person_named_like_a_version_is_none(on_change: str, shelf: Shelf) -> None:
    shelf.search([0.1], 0.1)
    shelf.search([0.2], 0.2, name="x-v2")
    config = shelf.config([0.2], on_change=on_change)
    opening = choose(config, recorded(config))
    assert opening.changed is not None
    assert opening.changed.name == "x"
    assert opening.config.study.name == ("x-v3" if on_change == "fork" else "x")
    assert shelf.search([0.1]).name == "x"


@pytest.mark.parametrize("name", ["x-v1", "x-v02", "x-v", "v2", "xv2", "x-v2-b"])
def test_a_name_that_only_looks_like_a_version_is_none(name: str, shelf: Shelf) -> None:
    shelf.search([0.1])
    assert shelf.search([0.2], name=name).name == name
    assert shelf.search([0.3], name=name).name == f"{name}-v2"


def test_a_carry_over_that_was_cut_short_is_made_whole(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.search([0.1, 0.2], 0.1, 0.2)

    def killed(self: StudyStore, trials: Any) -> None:
        for trial in list(trials)[:1]:
            self.storage.create_new_trial(self._study_id, template_trial=trial)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StudyStore, "carry_over", killed)
        with pytest.raises(KeyboardInterrupt):
            shelf.search([0.1, 0.2, 0.3])
    assert shown(shelf.search([0.1, 0.2, 0.3])) == [(0.1, "trial 0 of x"), (0.2, "trial 1 of x")]
    assert shown(shelf.search([0.1, 0.2, 0.3], 0.3))[2:] == [(0.3, None)], "and is not done again"


def test_nothing_is_carried_from_another_study_that_took_the_parents_name(shelf: Shelf) -> None:
    shelf.search([0.1, 0.2], 0.1)
    shelf.search([0.2, 0.3], 0.3)
    archive(shelf.folder / "x")
    (shelf.folder / "x").mkdir()
    with search_lock(shelf.folder / "x"):
        other = open_study(shelf.folder / "x", "x", shelf.url, recorded(shelf.config([0.1, 0.5])))
        other.close_trial(other.open_trial({"optim.lr": 0.5}, {}), Outcome.COMPLETE, value=0.5)
    assert shown(shelf.search([0.1, 0.2, 0.3, 0.4, 0.5])) == [(0.3, "trial 0 of x-v2")]


def test_a_refused_change_leaves_all_as_it_was(shelf: Shelf) -> None:
    shelf.search([0.1], 0.1)
    with pytest.raises(UserError, match=r"the space changed since study x was started \(optim\.lr: \[0\.1\] there, "):
        shelf.search([0.2], on_change="refuse")
    assert shelf.names == ["x"]
    assert shown(shelf.load("x")) == [(0.1, None)]
    assert shown(shelf.search([0.1], on_change="refuse")) == [(0.1, None)], "what is the same is resumed"


def test_an_archived_study_makes_room_and_can_still_be_read(shelf: Shelf) -> None:
    first = shelf.search([0.1], 0.1)
    first_id = first.id
    first.open_trial({"optim.lr": 0.1}, {"checkpoint": str(shelf.folder / "x" / "checkpoints" / "1"), "other": "/x/y"})
    (shelf.folder / "x" / "checkpoints").mkdir()
    begun = shelf.search([0.2], 0.2, on_change="archive")
    assert (begun.name, shown(begun)) == ("x", [(0.2, None)])
    aside = f"x-archived-{TODAY}"
    assert shelf.names == ["x", aside]
    kept = shelf.load(aside)
    assert (kept.id, kept.record.as_dict()) == (first_id, recorded(shelf.config([0.1])).as_dict())
    assert [trial.value for trial in kept.trials()] == [0.1, None]
    moved = kept.trial(1).user_attrs
    assert moved == {"checkpoint": str(shelf.folder / aside / "checkpoints" / "1"), "other": "/x/y"}
    assert stored_config(shelf.folder / aside).study.name == aside
    assert (shelf.folder / aside / "checkpoints").is_dir()
    assert shelf.search([0.3], on_change="archive").name == "x"
    assert shelf.names == ["x", aside, f"{aside}-2"]


def test_a_deleted_study_is_gone_once_that_was_agreed_to(shelf: Shelf) -> None:
    shelf.search([0.1], 0.1)
    config = shelf.config([0.2], on_change="delete")
    opening = choose(config, recorded(config))
    asked: list[str] = []
    with pytest.raises(UserError, match="nobody consented"):
        check_change(opening, None)
    assert shown(shelf.load("x")) == [(0.1, None)]
    check_change(opening, asked.append)
    assert asked == [f"Delete study x with its trials (1), in {shelf.folder / 'x'}?"]
    make_room(opening)
    assert shelf.names == []
    assert choose(config, recorded(config)).changed is None


@pytest.mark.parametrize("action", ["archive", "delete"])
def test_a_study_at_work_is_neither_archived_nor_deleted(action: str, shelf: Shelf) -> None:
    store = shelf.search([0.1], 0.1)
    config = shelf.config([0.2], on_change=action)
    opening = choose(config, recorded(config))
    with search_lock(shelf.folder / "x"):
        with pytest.raises(UserError, match="a search is running on"):
            check_change(opening, print)
        for act in (lambda: archive(shelf.folder / "x"), lambda: delete(store, shelf.folder / "x")):
            with pytest.raises(UserError, match="a search is running on"):
                act()
    assert shown(shelf.load("x")) == [(0.1, None)]
    assert shelf.names == ["x"]


def test_only_files_that_headroom_wrote_are_deleted_from_a_run_directory(shelf: Shelf) -> None:
    store = shelf.search([0.1], 0.1)
    run_dir = shelf.folder / "x"
    for name in ("cache", "checkpoints/trial-00000-a", f"checkpoints/{trial_folder(0, store.id, 'a')}"):
        (run_dir / name / "deep").mkdir(parents=True)
    elsewhere = shelf.folder.parent / "artifacts"
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    (run_dir / "artifacts").symlink_to(elsewhere)
    (run_dir / "notes.txt").touch()
    messages: list[str] = []
    assert [path.name for path in delete(store, run_dir, messages.append)] == ["artifacts", "checkpoints", "notes.txt"]
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["trial-00000-a"]
    assert (elsewhere / "mine").exists(), "a link is not followed"
    assert [line.split()[0] for line in messages] == [str(run_dir / "checkpoints" / "trial-00000-a")]


def test_a_study_id_that_leads_elsewhere_is_refused(shelf: Shelf) -> None:
    store = shelf.search([0.1], 0.1)
    precious = shelf.folder.parent / "precious"
    precious.mkdir()
    store.study.set_user_attr("id", "x/../../precious")
    with pytest.raises(UserError, match=r"study x: its id 'x/../../precious' is not one of headroom's"):
        delete(shelf.load("x"), shelf.folder / "x")
    assert precious.exists()
    assert shown(shelf.load("x")) == [(0.1, None)]


@pytest.mark.parametrize("content", ["", "headless", None])
def test_a_study_whose_file_is_lost_is_not_begun_anew_in_its_place(content: str | None, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, None)
    store = shelf.search([0.1], 0.1)
    run_dir, journal = tmp_path / "x", tmp_path / "x" / JOURNAL_FILE
    checkpoint = run_dir / "checkpoints" / trial_folder(0, store.id, "a") / "checkpoint_0"
    checkpoint.mkdir(parents=True)
    if content is None:
        journal.unlink()
    else:
        # Without its first line the journal holds no study.
        journal.write_text("".join(journal.read_text().splitlines(keepends=True)[-1:]) if content else "")
    message = (
        rf"study\.name: {journal} holds no study x, yet {run_dir}/checkpoints holds checkpoints of 1 trial; restore"
    )
    with pytest.raises(UserError, match=message):
        shelf.search([0.1])
    assert checkpoint.exists()
    assert shelf.search([0.1], fresh=True).name == "x-v2"
    assert shelf.search([0.1]).name == "x-v2"
    assert checkpoint.exists()


def test_a_journal_that_holds_no_study_beside_a_configuration_is_refused_too(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, None)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / JOURNAL_FILE).touch()
    assert shelf.search([0.1]).name == "x", "what a search left that was killed at once is no study"
    (tmp_path / "x" / JOURNAL_FILE).write_text("")
    with pytest.raises(
        UserError, match=r"holds no study x, yet .*/config\.yaml is the configuration of a study; restore"
    ):
        shelf.search([0.1])


@pytest.mark.parametrize("kind", ["link", "other"])
def test_a_folder_that_is_no_run_directory_is_left_alone(kind: str, shelf: Shelf) -> None:
    store = shelf.search([0.1], 0.1)
    folder = shelf.folder.parent / "other"
    if kind == "link":
        folder.symlink_to(shelf.folder / "x")
    else:
        folder.mkdir()
        (folder / "mine").touch()
    for act in (lambda: archive(folder), lambda: delete(store, folder)):
        with pytest.raises(UserError, match="is a link, or holds no"):
            act()
    assert folder.exists()
    assert shown(shelf.load("x")) == [(0.1, None)]


def test_a_version_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, None)
    shelf.search([0.1])
    (tmp_path / "x-v2").mkdir()
    (tmp_path / "x-v2" / JOURNAL_FILE).write_text("garbage\n")
    with pytest.raises(UserError, match=JOURNAL_FILE):
        shelf.search([0.1])


def test_a_name_that_leaves_no_room_for_a_version_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, None)
    shelf.search([0.1], name="x" * 99)
    with pytest.raises(UserError, match=r"study\.name: .*at most 100.*shorter"):
        shelf.search([0.2], name="x" * 99)


def test_a_fork_may_be_kept_elsewhere_than_its_parent(tmp_path: Path) -> None:
    there = Shelf(tmp_path / "there", None)
    parent = there.search([0.1, 0.2], 0.1)
    config = Shelf(tmp_path / "here", f"sqlite:///{tmp_path}/study.db").config([0.1, 0.3])
    (tmp_path / "here" / "x").mkdir(parents=True)
    opening = choose(config, recorded(config), fresh=True)
    store, message = begin(opening, parent_of(parent, there.folder / "x"))
    assert shown(store) == [(0.1, "trial 0 of x")]
    assert message == "carried over from x: 1 of 1 finished trials"


def test_a_database_in_the_run_directory_moves_with_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "runs", f"sqlite:///{tmp_path}/runs/x/own.db")
    shelf.search([0.1], 0.1)
    target = archive(tmp_path / "runs" / "x")
    config = stored_config(target)
    assert config.study.storage == f"sqlite:///{target}/own.db"
    assert shown(load_study(target, config.study.name, config.study.storage)) == [(0.1, None)]
    assert (target / CONFIG_FILE).is_file()
    assert shelf.names == [target.name]


def test_a_study_of_whole_epochs_goes_on_so_unless_another_rung_is_asked_for(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, None)
    old = shelf.config([0.1, 0.2])
    run_dir = Path(old.run_dir)
    run_dir.mkdir(parents=True)
    # The record of a study from before trials could report within epochs.
    open_study(run_dir, "x", None, replace(recorded(old), per_epoch=1))
    assert old.step_scale.per_epoch == 2, "a search of three epochs that begins today reports every half epoch"
    opening = choose(old, replace(recorded(old), per_epoch=2))
    assert (opening.is_new, opening.config.study.name, opening.config.step_scale.per_epoch) == (False, "x", 1)
    asked = replace(old, scheduler=replace(old.scheduler, rung=0.5))
    opening = choose(asked, replace(recorded(asked), per_epoch=2))
    assert (opening.is_new, opening.config.study.name) == (True, "x-v2")
    assert [str(difference) for difference in opening.differences] == [
        "scheduler.rung: 1 reports an epoch there, 2 reports an epoch here"
    ]
