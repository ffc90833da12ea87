"""Studies that were refused once made, or interrupted while being made: nothing hidden or undeletable is left."""

from pathlib import Path
from typing import Any

import pytest

from tune_app import experiment, forking
from tune_app.config import load_config
from tune_app.console import Console
from tune_app.distributed import run
from tune_app.errors import UserError
from tune_app.outcomes import Outcome
from tune_app.screening.preconditions import study_record
from tune_app.study import versions
from tune_app.study.run_dir import keep_config
from tune_app.study.store import find_study, open_study


class Killed(BaseException):
    """Signal that ends a command; nothing handles it."""


def kill(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture(params=["journal", "database"])
def storage(
    mine_yaml: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str | None:
    """Return the storage of studies, in a working directory with a configuration."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(mine_yaml)
    monkeypatch.setattr(forking, "check_training", lambda *_, **__: None)
    return None if request.param == "journal" else f"sqlite:///{tmp_path}/studies.db"


def override(storage: str | None) -> list[str]:
    return [f"study.storage={storage or 'null'}"]


@pytest.mark.parametrize("moment", ["keep_config", "open_study"])
def test_a_fork_that_was_killed_is_listed_and_can_be_deleted(
    storage: str | None, moment: str, headroom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("mine.yaml", override(storage))
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    store = open_study(run_dir, "mine", storage, study_record(config))
    store.close_trial(store.open_trial({"optim.lr": 0.1}, {}), Outcome.COMPLETE, value=0.1)
    keep_config(store, config, run_dir)
    with monkeypatch.context() as patch:
        patch.setattr(forking if moment == "keep_config" else versions, moment, kill)
        with pytest.raises(Killed):
            forking.fork(store, run_dir, config)
    forked = run_dir.with_name("mine-v2")
    if not forked.exists():
        assert (storage, moment) == (None, "open_study"), "it left nothing"
        return
    assert "mine-v2" in headroom("study", "list").out
    store_of_fork = find_study(forked, "mine-v2", storage)
    ran = headroom("study", "delete", "runs/mine-v2", "--yes")
    assert ran.code == 0, ran.err
    assert not forked.exists()
    assert store_of_fork is None or find_study(forked, "mine-v2", storage) is None
    assert "mine-v2" not in headroom("study", "list").out
    assert find_study(run_dir, "mine", storage) is not None


def test_a_new_study_that_is_refused_late_leaves_nothing(
    storage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("resources.gpu: too much")

    monkeypatch.setattr(run, "run_trials", refuse)
    config = load_config("mine.yaml", override(storage))
    with pytest.raises(UserError, match="too much"):
        experiment.run_search(config, console=Console(), quiet=True, run_trial=kill, checks=())
    assert not Path("runs").exists()
    assert find_study(Path(config.run_dir), "mine", storage) is None
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.yaml", "studies.db"}


def test_a_study_with_trials_that_is_refused_stays(storage: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("mine.yaml", override(storage))
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    store = open_study(run_dir, "mine", storage, study_record(config))
    store.close_trial(store.open_trial({"optim.lr": 0.1}, {}), Outcome.COMPLETE, value=0.1)

    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("resources.gpu: too much")

    monkeypatch.setattr(run, "run_trials", refuse)
    with pytest.raises(UserError, match="too much"):
        experiment.run_search(config, console=Console(), quiet=True, run_trial=kill, checks=())
    found = find_study(run_dir, "mine", storage)
    assert found is not None
    assert len(found.trials()) == 1
