"""Exports of a study: a configuration that runs unchanged, and a table of every trial."""

import copy
import csv
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from search_spaces.rules import Violation
from tune_app.config import RunConfig, load_config, parse_config
from tune_app.errors import UserError
from tune_app.outcomes import Outcome
from tune_app.study.export import export_best, export_leaderboard
from tune_app.study.record import StudyRecord
from tune_app.study.run_dir import CONFIG_FILE, keep_config, recorded_config, stored_config, write_config
from tune_app.study.store import JOURNAL_FILE, StudyStore, load_study, open_study

SPACE = {"optim.lr": {"low": 1e-5, "high": 1e-2, "log": True}, "model.name": {"choices": ["tiny-bert", "tiny-roberta"]}}


def a_config(folder: Path, **changes: Any) -> RunConfig:
    raw: dict[str, Any] = {
        "study": {"name": "test", "dir": str(folder)},
        "data": {"path": "demo", "max_rows": 500},
        "train": {"epochs": 5},
        "search": {"seed": 7},
        "scheduler": {"name": "hyperband", "warmup": 1},
        "limits": "users_24gb",
        "space": SPACE,
    }
    return parse_config({**raw, **changes})


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return a_config(tmp_path)


@pytest.fixture
def store(config: RunConfig, tmp_path: Path) -> StudyStore:
    assert config.space is not None
    return open_study(tmp_path, "test", None, StudyRecord(config.space, "criteria", "macro_f1", "max", "f" * 64))


def complete(store: StudyStore, value: float, lr: float = 1e-3, model: str = "tiny-bert", **attributes: Any) -> int:
    number = store.open_trial({"optim.lr": lr, "model.name": model}, {})
    store.close_trial(number, Outcome.COMPLETE, value=value, attributes=attributes)
    return number


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("written", "forged", "named"),
    [
        (r"\"tiny-bert\"", r"\"tiny-\\u001bbert\"", "model.name: "),
        ('"best_epoch":3', '"best_epoch":"x"', "pinned.epoch: "),
        ("optim.lr", "nosuch.lr", "nosuch.lr: unknown setting"),
    ],
)
def test_a_forged_record_is_named_in_one_line(
    store: StudyStore, config: RunConfig, tmp_path: Path, written: str, forged: str, named: str
) -> None:
    complete(store, 0.5, best_epoch=3)
    journal = tmp_path / JOURNAL_FILE
    text = journal.read_text()
    assert written in text
    journal.write_text(text.replace(written, forged))
    read = load_study(tmp_path, "test", None)
    with pytest.raises(UserError, match=f"trial 0 holds a value that no search gives it: {named}") as caught:
        export_best(read, config, tmp_path / "out")
    assert str(caught.value).isprintable()


def test_the_best_configuration_is_complete_and_pinned(store: StudyStore, config: RunConfig, tmp_path: Path) -> None:
    complete(store, 0.5)
    best = complete(store, 0.75, 3e-4, "tiny-roberta", best_epoch=4, device="cpu")
    complete(store, 0.75)
    file = export_best(store, config, tmp_path / "new" / "folder")
    loaded = load_config(file)
    assert loaded.space is None
    assert (loaded.optim.lr, loaded.model.name, loaded.train.epochs) == (3e-4, "tiny-roberta", 5)
    assert loaded.pinned is not None
    assert loaded.pinned.study == "test"
    assert (loaded.pinned.trial, loaded.pinned.value, loaded.pinned.epoch) == (best, 0.75, 4)
    assert (loaded.pinned.data_fingerprint, loaded.pinned.device) == ("f" * 64, "cpu")
    assert {"python", "torch", "transformers", "headroom"} <= set(loaded.pinned.versions)
    assert loaded.trial_settings() == config.with_params(store.trial(best).params).trial_settings()
    assert loaded.limits == config.limits, "what was let through is not judged otherwise when it is trained again"
    assert file.read_text().startswith("# Trial 1 of study test: macro_f1 0.750000 on validation.\n")


@pytest.mark.parametrize("given", ["together", "apart"])
def test_a_study_that_says_how_equal_texts_are_split_keeps_that(
    given: Literal["together", "apart"], store: StudyStore, config: RunConfig, tmp_path: Path
) -> None:
    complete(store, 0.5)
    exported = export_best(store, replace(config, data=replace(config.data, equal_texts=given)), tmp_path)
    assert load_config(exported).data.equal_texts == given


def test_a_study_older_than_the_setting_keeps_its_split_of_equal_texts(
    store: StudyStore, config: RunConfig, tmp_path: Path
) -> None:
    keep_config(store, config, tmp_path)
    file = tmp_path / CONFIG_FILE
    file.write_text(file.read_text().replace("  equal_texts: together\n", ""))
    assert stored_config(tmp_path).data.equal_texts == "apart"
    older = copy.deepcopy(store.config)
    assert older is not None
    del older["data"]["equal_texts"]
    store.set_config(older)
    recorded, _ = recorded_config(store, stored_config(tmp_path))
    assert recorded.data.equal_texts == "apart"


def test_the_budget_that_the_trial_had_is_kept(store: StudyStore, config: RunConfig, tmp_path: Path) -> None:
    complete(store, 0.5, budget_gib=1 / 3)
    assert load_config(export_best(store, config, tmp_path)).memory.budget_gib == 1 / 3


def test_the_value_is_written_to_the_last_digit(store: StudyStore, config: RunConfig, tmp_path: Path) -> None:
    complete(store, 0.1 + 0.2, lr=1e-3 / 3)
    loaded = load_config(export_best(store, config, tmp_path))
    assert loaded.pinned is not None
    assert loaded.pinned.value == 0.1 + 0.2
    assert loaded.optim.lr == 1e-3 / 3


def test_a_study_is_exported_again_in_place(store: StudyStore, config: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    complete(store, 0.5)
    export_best(store, config, folder)
    export_leaderboard(store, folder)
    complete(store, 0.75)
    loaded = load_config(export_best(store, config, folder))
    assert loaded.pinned is not None
    assert loaded.pinned.trial == 1
    assert len(rows_of(export_leaderboard(store, folder))) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["best.yaml", "leaderboard.csv"]


def test_there_is_no_best_without_a_complete_trial(store: StudyStore, config: RunConfig, tmp_path: Path) -> None:
    number = store.open_trial({"optim.lr": 1e-3, "model.name": "tiny-bert"}, {})
    store.report(number, 1, 0.9)
    store.close_trial(number, Outcome.STOPPED)
    with pytest.raises(UserError, match=r"test: holds no complete trial.*headroom status test"):
        export_best(store, config, tmp_path / "exports")
    assert not (tmp_path / "exports").exists()


def test_no_password_is_exported(store: StudyStore, tmp_path: Path) -> None:
    config = a_config(
        tmp_path,
        study={"name": "test", "dir": str(tmp_path), "storage": "postgresql://user:secret@host/db"},
        tracking={"uri": "https://user:secret@host"},
    )
    complete(store, 0.5)
    text = export_best(store, config, tmp_path).read_text()
    assert "secret" not in text
    loaded = load_config(tmp_path / "best.yaml")
    assert loaded.study.storage is None
    assert (loaded.tracking.enabled, loaded.tracking.uri) == (False, None)


def test_a_model_is_logged_where_the_trials_are(store: StudyStore, tmp_path: Path) -> None:
    tracking = {"uri": "http://host:5000", "register": "mine"}
    config = a_config(tmp_path, study={"name": "test", "dir": str(tmp_path)}, tracking=tracking)
    complete(store, 0.5)
    assert load_config(export_best(store, config, tmp_path)).tracking == config.tracking


def test_the_table_has_every_trial_the_complete_ones_first_and_best_first(store: StudyStore, tmp_path: Path) -> None:
    params: dict[str, Any] = {"optim.lr": 1e-3, "model.name": "tiny-bert"}
    stopped = store.open_trial(params, {})
    store.report(stopped, 1, 0.25)
    store.report(stopped, 2, 0.125)
    store.close_trial(stopped, Outcome.STOPPED, reason="asha stopped it")
    complete(store, 0.5, effective_batch=32, recoveries=0, tokens_per_s=1500.5, best_epoch=2)
    complete(store, 0.75)
    store.record_infeasible(params, [Violation("size_limits", 'batch "48" > 16,\nfar', 2.0)])
    complete(store, 0.5)
    store.close_trial(store.open_trial(params, {}), Outcome.FAILED, reason="KeyError: 'x'")
    store.open_trial(params, {})
    rows = rows_of(export_leaderboard(store, tmp_path))
    assert [(row["rank"], row["number"], row["outcome"], row["macro_f1"]) for row in rows] == [
        ("1", "2", "complete", "0.75"),
        ("2", "1", "complete", "0.5"),
        ("3", "4", "complete", "0.5"),
        ("", "0", "stopped", "0.25"),
        ("", "3", "infeasible", ""),
        ("", "5", "failed", ""),
        ("", "6", "open", ""),
    ]
    assert rows[4]["reason"] == 'batch "48" > 16,\nfar'
    second = rows[1]
    assert (second["effective_batch"], second["recoveries"], second["tokens_per_s"]) == ("32", "0", "1500.5")
    assert (second["best_epoch"], second["optim.lr"], second["model.name"]) == ("2", "0.001", "tiny-bert")


def test_the_table_of_an_empty_study_is_its_heading(store: StudyStore, tmp_path: Path) -> None:
    file = export_leaderboard(store, tmp_path)
    heading = file.read_text().splitlines()
    assert len(heading) == 1
    assert heading[0].startswith("rank,number,outcome,macro_f1,best_epoch,optim.lr,model.name,effective_batch")
    assert heading[0].endswith(",reason")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_refused(place: str, store: StudyStore, config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    complete(store, 0.5)
    for write in (lambda folder: export_best(store, config, folder), lambda folder: export_leaderboard(store, folder)):
        with pytest.raises(UserError, match=r"--to: .*file.* cannot be written"):
            write(tmp_path / place)


def test_the_resolved_configuration_keeps_a_password_in_a_file_of_its_owners_alone(tmp_path: Path) -> None:
    url = "postgresql://user:secret@host/db"
    tracking = {"uri": "https://user:secret@tracking"}
    config = a_config(tmp_path, study={"name": "test", "dir": str(tmp_path), "storage": url}, tracking=tracking)
    write_config(config, tmp_path)
    assert "secret" not in (tmp_path / CONFIG_FILE).read_text()
    (file,) = (path for path in tmp_path.iterdir() if path.name != CONFIG_FILE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stored_config(tmp_path) == config
    with pytest.raises(UserError, match=r"study\.storage: postgresql://user:\*\*\*@host/db: its password was left out"):
        load_config(tmp_path / CONFIG_FILE)


@pytest.mark.parametrize("later", ["postgresql://user@host/other", None])
def test_a_password_of_an_earlier_storage_is_forgotten(later: str | None, tmp_path: Path) -> None:
    for url in ("postgresql://user:secret@host/db", later):
        config = a_config(tmp_path, study={"name": "test", "dir": str(tmp_path), "storage": url})
        write_config(config, tmp_path)
    assert stored_config(tmp_path).study.storage == later
    assert not any("secret" in path.read_text() for path in tmp_path.iterdir())


def test_a_setting_that_was_added_since_is_no_difference(store: StudyStore, config: RunConfig, tmp_path: Path) -> None:
    assert recorded_config(store, config) == (config, []), "a study of before its configuration was kept in it"
    keep_config(store, config, tmp_path)
    assert store.config is not None
    earlier = copy.deepcopy(store.config)
    del earlier["optim"]["eps"], earlier["memory"]
    store.set_config(earlier)
    found, differences = recorded_config(store, config)
    assert (found, differences) == (config, [])
    changed, differences = recorded_config(store, a_config(tmp_path, train={"epochs": 8}))
    assert changed == config
    assert list(map(str, differences)) == ["train.epochs: 5 there, 8 here"]


def test_the_resolved_configuration_is_the_configuration(config: RunConfig, tmp_path: Path) -> None:
    write_config(config, tmp_path)
    assert load_config(tmp_path / CONFIG_FILE) == config
